"""Keys, signed statements, and the package that nobody takes on trust."""
