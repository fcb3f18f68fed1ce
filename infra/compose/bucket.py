# ruff: noqa: INP001 - a script
"""Make the bucket, versioned, if it is not there: bucket.py NAME."""

import sys

import boto3  # noqa: TID253 - a script for the Airflow image
from botocore.config import Config  # noqa: TID253 - the same

name = sys.argv[1]
client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
    client.create_bucket(Bucket=name)
client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
