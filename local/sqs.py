"""A local SQS (and SNS and SES): moto's server as a child process of ours.

It forgets everything when it ends and every call takes longer the more messages wait: right for development and for
tests with small queues. As a program, `python -m local.sqs --port N` serves until its standard input ends.
"""

import argparse
import logging
import selectors
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Self

START_DEADLINE = timedelta(seconds=30)
# moto keeps nothing, so nothing is lost when it is not polite in time.
STOP_PATIENCE = timedelta(seconds=2)
HOST = "127.0.0.1"


class SqsUnavailable(Exception):
    """The local SQS did not start; the message says why."""


class LocalSqs:
    """An SQS endpoint on this machine that belongs to this process and ends with it, however it ends.

    The child reads from a pipe whose other end only we hold. The kernel closes that when we die, whatever kills us
    and on every system; closing it is also how `stop` ends the child.
    """

    def __init__(self, *, port: int = 0) -> None:
        """Describe a server; `start` runs it.

        Args:
            port: Port on 127.0.0.1; with 0 the first start chooses a free one, and later starts keep to it.
        """
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the server."""
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def endpoint_url(self) -> str:
        """What AWS clients take as their endpoint; known once the server has started."""
        return f"http://{HOST}:{self._port}"

    def start(self) -> None:
        """Run the server, anew if it runs already, and return when it takes requests. No queue exists yet.

        Raises:
            SqsUnavailable: The port is taken, or moto did not come up within its deadline. What the child had to
                say about it is on our standard error.
        """
        self.stop()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "local.sqs", "--port", str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Unbuffered, so that what `select` sees and what `readline` reads are the same.
            bufsize=0,
            # Ctrl-C is for us: the server stops when we say so, after those who use it.
            start_new_session=True,
        )
        try:
            self._port = self._await_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server. Safe to call twice and before the start."""
        if self._process is None:
            return
        with self._process as process:
            if process.stdin:
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_PATIENCE.total_seconds())
            process.kill()
        self._process = None

    def _await_port(self) -> int:
        """Return the port that the child reports as soon as it listens."""
        if self._process is None or self._process.stdout is None:
            message = "The local SQS has not been started."
            raise SqsUnavailable(message)
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(START_DEADLINE.total_seconds()):
                message = f"The local SQS was not ready within {START_DEADLINE.total_seconds():.0f} s."
                raise SqsUnavailable(message)
        report = self._process.stdout.readline()
        if not report:
            guess = f"; is port {self._port} in use?" if self._port else "."
            message = f"The local SQS ended at its start (status {self._process.wait()}){guess}"
            raise SqsUnavailable(message)
        return int(report)


def serve(port: int) -> None:
    """Report the port on standard output, then serve until standard input ends."""
    # Only the child pays for these: half a second and 60 MB.
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from moto.sqs.models import SQSBackend  # noqa: PLC0415
    from werkzeug.serving import make_server  # noqa: PLC0415

    # To find out whether a message is older than the four days it is kept, moto counts all messages, for each one it
    # looks at: a receive from a thousand takes more than a second. No message of a local server gets that old.
    SQSBackend.is_message_valid_based_on_retention_period = lambda *_: True  # type: ignore[method-assign]

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # No line per request.
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server(HOST, port, application, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    # Nobody reads the pipe any more, and moto prints now and then.
    sys.stdout = sys.stderr
    sys.stdin.read()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve SQS, SNS and SES on this machine until standard input ends.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0, the default, for a free one")
    serve(parser.parse_args().port)
