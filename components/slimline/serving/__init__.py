"""The model server that runs in an endpoint's container, or as a process beside the pipeline.

A plain ASGI application on uvicorn over ONNX Runtime. It answers for a package that verifies and
for nothing else: until then it is alive and not ready, and a package that is refused ends it with
exit code 65. It imports no torch, no boto3 and no airflow.

`settings` reads what a cloud sets, `model` loads and predicts, `codecs` turn bytes into arrays and
back, `routes` say who answers what, `app` admits, limits and counts, `server` drains, `main` is the
story from the command line to the exit code.
"""
