"""`make demo`: the main job on embedded servers, from data to a signed model where it runs.

stack     what is started: S3, MLflow, Airflow, a fleet of devices
follow    watch a DAG run, step by step, as it goes
story     the acts: compress, promote, again, a bad candidate, a bad release
summary   the figures of all acts, as a table and as summary.json
"""
