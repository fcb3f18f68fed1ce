"""Keeps a fleet's signed metadata from expiring while nothing is published; the janitor runs it."""
