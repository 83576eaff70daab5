"""Starts the worker: `python -m worker`, or one half of it: `python -m worker --only fanout`, `--only deliveries`."""

import sys

from worker.stopping import Stop

if __name__ == "__main__":
    stop = Stop()
    # Before the imports below, which take their time: as process 1 of a container we would not even hear the signal.
    stop.listen()

    from worker.main import main

    status = main(stop, sys.argv[1:])
    stop.stop_listening()
    sys.exit(status)
