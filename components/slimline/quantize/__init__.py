"""Why this room exists: integer arithmetic is small and fast, but only if it really took place."""
