"""Why this room exists: what was won and lost is measured once, on data no step has seen."""
