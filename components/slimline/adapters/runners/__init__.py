"""Ways to run a job: a child process here; containers and pods by the same protocol."""
