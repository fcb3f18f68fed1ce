"""`python -m slimline` is the command line."""

from slimline.adapters.cli import main

main()
