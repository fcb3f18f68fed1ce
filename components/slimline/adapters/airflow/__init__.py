"""Slimline in Airflow: params form, operator, gate, retry policy, triggers and DAG builders."""
