"""Where a package becomes a model version that a person can promote."""
