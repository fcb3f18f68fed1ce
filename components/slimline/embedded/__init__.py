"""The servers of a demo and of the tests, on loopback: S3, MLflow, Airflow, and what starts them.

They are the real programs, not stand-ins: OpenStack Swift's S3 interface, MLflow's tracking and
registry server, Airflow's own scheduler. Each runs as a child in its own session, writes under one
state directory, and is stopped for sure.
"""
