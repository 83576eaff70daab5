"""The whole system on one machine, for development and tests; imported by nobody else."""
