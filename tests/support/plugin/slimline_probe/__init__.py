"""Rooms of another package, found by entry point: what runner and operator are tested with."""
