"""Looks at what was just released, for a while, before it counts as good.

A release can pass every check and still do badly in its place. This room only looks and says; the
DAG decides what to undo.
"""
