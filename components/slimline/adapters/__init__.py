"""Readers of the contract: command line, Airflow, Kubeflow, S3, and the ways to run a job."""
