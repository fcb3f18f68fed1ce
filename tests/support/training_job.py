"""Runs one job of a component on one core in a process that may be killed.

Arguments: component, store, work directory, JSON of inputs and parameters. Exits as the CLI does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from slimline.contract import LocalStore, SlimlineError, execute, load_component
from slimline.contract.log import setup_logging


def main() -> None:
    component, store, work, values = sys.argv[1:]
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    setup_logging()
    try:
        job = load_component(component).parse(json.loads(values))
        outcome = execute(job, LocalStore(Path(store)), work_dir=Path(work))
    except SlimlineError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(outcome.manifest.model_dump_json())


if __name__ == "__main__":
    main()
