"""Stop every process that a demo left running: `make stop`."""

import sys

from slimline.embedded.demo.__main__ import STATE_DIR
from slimline.embedded.process import stop_all

if __name__ == "__main__":
    stopped = stop_all(STATE_DIR) if STATE_DIR.is_dir() else ()
    sys.stdout.write(f"stopped: {', '.join(stopped) or 'nothing was running'}\n")
