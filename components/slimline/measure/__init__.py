"""Measuring a model in the runtime that will serve it: predictions, latency, intervals."""
