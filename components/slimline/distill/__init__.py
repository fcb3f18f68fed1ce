"""Teach a smaller network to answer as a larger one does: size falls, accuracy stays."""
