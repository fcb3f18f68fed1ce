"""Stop every process and container that a demo left running: `make stop`."""

import sys

from slimline.contract import SlimlineError
from slimline.embedded.demo.__main__ import STATE_DIR
from slimline.embedded.demo.stack import stop_stack


def main() -> int:
    """Stop them, and say which there were; returns the exit code."""
    try:
        stopped = stop_stack(STATE_DIR) if STATE_DIR.is_dir() else ()
    except SlimlineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"stopped: {', '.join(stopped) or 'nothing was running'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
