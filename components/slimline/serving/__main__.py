"""`python -m slimline.serving [serve]`."""

import sys

from slimline.serving.main import main

sys.exit(main(sys.argv[1:]))
