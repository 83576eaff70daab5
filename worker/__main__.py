"""Starts the worker: `python -m worker`."""

import sys

from worker.stopping import Stop

if __name__ == "__main__":
    stop = Stop()
    # Before the imports below, which take their time: as process 1 of a container we would not even hear the signal.
    stop.listen()

    from worker.main import main

    status = main(stop)
    stop.stop_listening()
    sys.exit(status)
