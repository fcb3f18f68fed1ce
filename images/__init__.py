"""One folder for each dependency set, and what builds, lists and signs them: `make images`."""
