"""A tiny component that tests run for real: it doubles a number in a file."""
