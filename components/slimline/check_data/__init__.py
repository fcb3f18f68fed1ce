"""The first step of every run: read the source, check it, split it, or refuse it.

A model is only as good as its data, and a broken source is cheapest to refuse here. What passes is
split once, by a stable hash, so that no later step can train on what it is measured on.
"""
