"""Slimline takes a PyTorch model to where it runs: small, fast, proven, signed.

    check_data -> train -> [distill | prune]* -> export -> quantize -> validate -> gate
        -> package -> push -> register          (a recipe's compress DAG)
    verify -> approve -> deploy -> ota           (a promotion's release DAG)

Each step is a room: a folder with `spec.py` (what it takes and gives) and `run.py` (the work).
`contract` says what a component is; `adapters` read that contract for the command line, Airflow and
Kubeflow; `data`, `models`, `measure` and `trust` are what several rooms share.
"""
