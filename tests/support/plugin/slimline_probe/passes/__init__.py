"""A room for tests."""
