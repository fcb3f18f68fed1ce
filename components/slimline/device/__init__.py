"""The agent that runs on a device: takes what its fleet may run, or stays what it was.

The way of an update: FETCH -> VERIFY -> STAGE -> TRIAL -> HEALTH -> COMMIT or ROLLBACK -> REPORT.
The authority is signed metadata (TUF), not the bucket and not a message. A device that loses power
at any moment comes up on the old or the new version, whole. No torch, no boto3, no airflow here.
"""
