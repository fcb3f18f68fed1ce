"""The airflow DAG that searches: trials of a round run side by side, each cached by content."""

from slimline.adapters.airflow.search import search_dag

search_dag(rounds=12)
