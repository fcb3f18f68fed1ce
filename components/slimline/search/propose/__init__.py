"""What a search tries next, as a job of its own: for orchestrators that run trials side by side."""
