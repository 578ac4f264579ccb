"""Several processes on one machine: the supervisor, and a training run with all that it needs."""
