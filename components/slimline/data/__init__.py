"""Examples: where they come from, how they are split, stored and turned into a model's input."""
