"""The whole system on one machine: its parts, the order they start and stop in, and what happens when one dies."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol, Self

import httpx

from local.demo import add_contact_points, add_demo_data
from local.environment import DEAD_LETTER_QUEUE, HOST, QUEUE, REGION, build_environment, health_file
from local.keeping import ensure_kept
from local.postgres import EmbeddedPostgres
from local.process import ChildProcess
from local.roles import Login, grant_roles
from local.sinks import LocalSinks
from local.sqs import LocalSqs
from shared import roles
from shared.db import create_engine, create_sessions
from shared.encryption import Cipher, make_key
from shared.queue.sqs import SqsConfig, create_queues
from shared.schema import migrate
from shared.settings import DatabaseSettings

DATABASE = "postgres"
ENCRYPTION_KEY_FILE = "encryption-key"
# As in production, api and worker are ordinary logins with the rights of their roles. Only we reach the socket, which
# asks for no password.
LOGINS = {"api": Login("api", roles.API), "worker": Login("worker", roles.WORKER)}
READY_DEADLINE = timedelta(seconds=30)
# Shorter than the ten seconds in which Ctrl-C has to end everything, longer than api and worker need to drain.
STOP_PATIENCE = timedelta(seconds=6)
CHECK_INTERVAL = timedelta(milliseconds=200)
# A part that dies sooner than this after its start is restarted after a pause, which grows up to the longest.
STEADY = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(seconds=15)


class SystemFailed(Exception):
    """The system could not be started; the message says why and what helps."""


class Part(Protocol):
    """A server or process that can be started again when it has died."""

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""

    def start(self) -> None:
        """Run it."""


@dataclass(slots=True)
class Watched:
    """A part under supervision."""

    name: str
    part: Part
    after_restart: Callable[[], None] = lambda: None
    started_at: float = field(default_factory=time.monotonic)
    restart_at: float | None = None
    pause: float = 0.0


class LocalSystem:
    """PostgreSQL, SQS, the sinks for messages, api and worker, with a demo tenant in them."""

    def __init__(self, directory: Path, *, port: int, report: Callable[[str], None]) -> None:
        """Describe a system; use it in a `with` block, which starts it and stops all of it.

        Args:
            directory: Where it keeps its data, made when missing.
            port: The api's port on 127.0.0.1.
            report: Takes the lines that tell how far the start is and which part died.
        """
        self.directory = directory
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self._report = report
        self._health_file = health_file(directory)
        self._postgres = EmbeddedPostgres(directory / "postgres")
        self._sqs = LocalSqs()
        self._sinks = LocalSinks()
        self._worker: ChildProcess | None = None
        self._watched: list[Watched] = []
        self._stack = ExitStack()
        # It has its ports from now on, and everybody else is stopped before it.
        self._stack.callback(self._sinks.stop)

    def __enter__(self) -> Self:
        """Start all parts and return when the api answers.

        Raises:
            SystemFailed: The port is taken, or the api did not become ready.
            PostgresUnavailable: PostgreSQL did not start.
            SqsUnavailable: The SQS server did not start.
            SinksUnavailable: The sinks for messages did not start.
        """
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop all parts, the users of a part before the part itself."""
        self._stack.close()

    @property
    def sqs_endpoint(self) -> str:
        """Where its SQS listens."""
        return self._sqs.endpoint_url

    @property
    def sinks_url(self) -> str:
        """Where the messages show that its channels delivered."""
        return self._sinks.url

    @property
    def database_url(self) -> str:
        """A URL of its database, as psql takes it."""
        return self._postgres.dsn(DATABASE).replace("+asyncpg", "")

    @property
    def worker_pid(self) -> int | None:
        """The process id of its worker, None while it does not run."""
        return self._worker.pid if self._worker else None

    def supervise(self, stop: threading.Event) -> None:
        """Restart whatever dies, with a line that says so, until `stop` is set."""
        while not stop.wait(CHECK_INTERVAL.total_seconds()):
            for watched in self._watched:
                if watched.part.pid is None:
                    self._revive(watched)

    def _start(self) -> None:
        _require_free_port(self._port)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        encryption_key = ensure_kept(self.directory / ENCRYPTION_KEY_FILE, make_key)
        self._step("PostgreSQL", self._start_postgres)
        self._step("SQS", self._start_sqs)
        self._step("Sinks", self._sinks.start)
        self._step("Database schema", lambda: asyncio.run(self._prepare_database(Cipher([encryption_key]))))
        environment = build_environment(
            directory=self.directory,
            port=self._port,
            sqs_endpoint=self._sqs.endpoint_url,
            channels=self._sinks.settings,
            encryption_key=encryption_key,
        )
        self._watch("postgres", self._postgres)
        self._watch("sqs", self._sqs, after_restart=self._create_queues)
        self._watch("sinks", self._sinks.process)
        api, worker = (
            ChildProcess(
                name,
                [sys.executable, "-m", name],
                environment=environment | {"DATABASE_URL": self._postgres.dsn(DATABASE, user=login.name)},
            )
            for name, login in LOGINS.items()
        )
        self._stack.callback(_stop_all, [worker, api])
        for child in (api, worker):
            child.start()
            self._watch(child.name, child)
        self._worker = worker
        self._step("api and worker", lambda: self._await_ready(api, worker))

    def _start_postgres(self) -> None:
        self._postgres.start()
        self._stack.callback(self._postgres.stop)

    def _start_sqs(self) -> None:
        self._sqs.start()
        self._stack.callback(self._sqs.stop)
        self._create_queues()

    def _create_queues(self) -> None:
        """Create the queues of a server that has just been started and so has none."""
        config = SqsConfig(
            queue_name=QUEUE,
            dead_letter_queue_name=DEAD_LETTER_QUEUE,
            region=REGION,
            endpoint_url=self._sqs.endpoint_url,
            access_key_id="local",
            secret_access_key="local",  # noqa: S106 - moto takes any
        )
        asyncio.run(create_queues(config))

    async def _prepare_database(self, cipher: Cipher) -> None:
        engine = create_engine(
            DatabaseSettings.model_validate({"url": self._postgres.dsn(DATABASE)}), application_name="notify up"
        )
        try:
            await migrate(engine)
            await grant_roles(engine, *LOGINS.values())
            sessions = create_sessions(engine)
            await add_demo_data(sessions)
            await add_contact_points(sessions, cipher=cipher, sinks_url=self._sinks.url)
        finally:
            await engine.dispose()

    def _await_ready(self, *children: ChildProcess) -> None:
        deadline = time.monotonic() + READY_DEADLINE.total_seconds()
        while not (self._health_file.exists() and self._api_is_ready()):
            for child in children:
                if child.exit_status is not None:
                    message = f"The {child.name} ended at its start; the lines above say why."
                    raise SystemFailed(message)
            if time.monotonic() > deadline:
                message = f"It was not ready within {READY_DEADLINE.total_seconds():.0f} s; the lines above say why."
                raise SystemFailed(message)
            time.sleep(CHECK_INTERVAL.total_seconds())

    def _api_is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=1, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _watch(self, name: str, part: Part, *, after_restart: Callable[[], None] = lambda: None) -> None:
        self._watched.append(Watched(name, part, after_restart))

    def _revive(self, watched: Watched) -> None:
        now = time.monotonic()
        if watched.restart_at is None:
            steady = now - watched.started_at >= STEADY.total_seconds()
            watched.pause = 0.0 if steady else min(max(1.0, watched.pause * 2), LONGEST_PAUSE.total_seconds())
            watched.restart_at = now + watched.pause
            when = f" in {watched.pause:.0f} s" if watched.pause else ""
            self._report(f"{watched.name} has died; restarting it{when}")
        if now < watched.restart_at:
            return
        watched.restart_at = None
        watched.started_at = now
        try:
            watched.part.start()
            watched.after_restart()
        except Exception as error:  # noqa: BLE001 - the next look finds it dead and tries again
            self._report(f"{watched.name} could not be restarted: {error}")

    def _step(self, name: str, action: Callable[[], None]) -> None:
        began = time.monotonic()
        action()
        self._report(f"{name:<16} ready ({time.monotonic() - began:.1f} s)")


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            message = f"Port {port} is taken. Stop what uses it, or choose another: PORT={port + 1} make run"
            raise SystemFailed(message) from error


def _stop_all(children: list[ChildProcess]) -> None:
    """Stop the processes side by side: their graceful ends may take as long as one."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + STOP_PATIENCE.total_seconds()
    for child in children:
        child.stop(patience=timedelta(seconds=max(0.0, deadline - time.monotonic())))
