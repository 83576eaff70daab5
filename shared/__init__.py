"""What api and worker have in common: models, database, queue, settings, clock, logging, channels."""
