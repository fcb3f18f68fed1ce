# ruff: noqa: INP001 - a script
"""Exit 0 when a part of Airflow is well: healthy.py URL [PART]. Imports little, so it is cheap.

With PART, the answer is Airflow's own report of its parts; without, an answer of 200 is enough.
"""

import json
import sys
import urllib.request

url, *parts = sys.argv[1:]
try:
    with urllib.request.urlopen(url, timeout=8) as answer:  # noqa: S310 - compose.yaml gives it
        report = json.load(answer) if parts else {}
except OSError as error:
    sys.exit(f"{url}: {error}")
for part in parts:
    state = report[part]["status"]
    if state != "healthy":
        sys.exit(f"{part} is {state}")
