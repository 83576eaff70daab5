"""An embedded PostgreSQL: a server that lives and ends with the process that started it."""

import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Self
from urllib.parse import quote

from local.launch import NAMESPACE, OURSELVES, launched_as
from local.postgres_programs import (
    PostgresUnavailable,
    environment,
    find_binaries,
    major_version,
    may_use_namespaces,
    run_program,
)

SUPERUSER = "postgres"
DEFAULT_PORT = 5432
START_DEADLINE = timedelta(seconds=30)
# How long a server whose parent has just died may still take to stop before its directory counts as in use.
HANDOVER_DEADLINE = timedelta(seconds=3)
POLL_INTERVAL = timedelta(milliseconds=20)
# Fast shutdown, immediate shutdown, and the end of all patience: seven seconds at most.
SHUTDOWN_STEPS = (
    (signal.SIGINT, timedelta(seconds=5)),
    (signal.SIGQUIT, timedelta(seconds=2)),
    (signal.SIGKILL, None),
)
# The shortest limit among the systems we run on (macOS: 104 bytes with the final zero, Linux: 108).
MAX_SOCKET_PATH = 103
LOG_TAIL_LINES = 20

SERVER_SETTINGS = {"max_connections": "200", "shared_buffers": "128MB", "timezone": "UTC", "log_timezone": "UTC"}
# Commits survive the end of the server, not that of the machine: right for data that a test makes and throws away.
VOLATILE_SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A PostgreSQL server that belongs to this process and ends with it, however it ends.

    It lives in one directory: `cluster/` (the data), `server.log` (of the latest start), `socket/` and
    `password` (for TCP). It listens on a Unix socket that only we can reach and, given a port, on 127.0.0.1.

    Its methods block, for a second at most as a rule: a program has nothing better to do while its database starts
    or stops, and both a test session and a supervisor want this outside of any event loop. Inside of one, use
    `asyncio.to_thread`.
    """

    def __init__(self, directory: Path, *, durable: bool = True, port: int | None = None) -> None:
        """Describe a server; `start` runs it.

        Args:
            directory: Where it keeps everything; made when missing, data in it is used again.
            durable: Whether commits survive a crash of the machine. False is faster, for tests.
            port: Port on 127.0.0.1, which asks for the password of `tcp_dsn`; None for no TCP at all.
        """
        self._directory = directory.absolute()
        self._cluster = self._directory / "cluster"
        self._log = self._directory / "server.log"
        self._password = self._directory / "password"
        self._socket_directory = self._directory / "socket"
        self._durable = durable
        self._port = port
        if len(os.fsencode(self._socket_directory / f".s.PGSQL.{port or DEFAULT_PORT}")) > MAX_SOCKET_PATH:
            # Named after the directory, so that a DSN stays true when the server is started again.
            digest = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:16]
            self._socket_directory = Path(tempfile.gettempdir()) / f"postgres-{digest}"
        self._identity = OURSELVES
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: ThreadPoolExecutor | None = None

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

    def dsn(self, database: str, *, user: str = SUPERUSER) -> str:
        """Return SQLAlchemy's URL of a database, through the Unix socket, as any login of the server."""
        port = f":{self._port}" if self._port else ""
        name, host = quote(database, safe=""), quote(str(self._socket_directory))
        return f"postgresql+asyncpg://{quote(user, safe='')}@{port}/{name}?host={host}"

    def tcp_dsn(self, database: str) -> str:
        """Return a plain URL of a database on 127.0.0.1, for tools of other people; needs a server with a port."""
        return (
            f"postgresql://{SUPERUSER}:{self._password.read_text()}@127.0.0.1:{self._port}/{quote(database, safe='')}"
        )

    def start(self) -> None:
        """Run the server, anew if it runs already, and return when it takes connections.

        The first start makes the database cluster.

        Raises:
            PostgresUnavailable: The directory is in use or holds data of another major version, or the server
                did not come up within its deadline; the message then carries the end of its log.
        """
        self.stop()
        binaries = find_binaries()
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock_directory()
        try:
            self._identity = self._choose_identity(binaries)
            self._prepare_cluster(binaries, lock)
            self._remove_stale_pid_file()
            self._make_socket_directory()
            self._spawn(binaries, lock)
        finally:
            os.close(lock)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server within seconds: politely, then less so. Safe to call twice and before the start."""
        if self._process:
            for number, patience in SHUTDOWN_STEPS:
                self._process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience.total_seconds() if patience else None)
                    break
            self._process = None
            if self._socket_directory.parent != self._directory:
                shutil.rmtree(self._socket_directory, ignore_errors=True)
        if self._keeper:
            self._keeper.shutdown()
            self._keeper = None

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Create a database, empty or as a copy of a template to which nobody is connected."""
        self._run_client("createdb", *(["--template", template] if template else []), name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and end the connections it still has."""
        self._run_client("dropdb", "--if-exists", "--force", name)

    def _lock_directory(self) -> int:
        """Lock our directory and return the descriptor that holds the lock.

        The server and all its backends inherit the descriptor, so the lock is held exactly as long as any of them
        lives. Unlike a process id in a file, it is never stale and cannot mean somebody else.
        """
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError as error:
            message = f"{self._directory} belongs to another user. Start the server as that user, or remove it."
            raise PostgresUnavailable(message) from error
        deadline = time.monotonic() + HANDOVER_DEADLINE.total_seconds()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(POLL_INTERVAL.total_seconds())
                    continue
                os.close(descriptor)
                message = (
                    f"A PostgreSQL server is already running on {self._directory} (process {self._recorded_pid()}). "
                    "Stop it, or use another directory."
                )
                raise PostgresUnavailable(message) from None
            return descriptor

    def _choose_identity(self, binaries: Path) -> str:
        """Return as whom to run the server, which refuses to be root.

        Root runs it as the owner of the directory, if that is somebody else. Otherwise in a user namespace, where
        root is called nobody and all files stay root's. Where those are forbidden, the directory is given to nobody.
        """
        if os.geteuid() != 0:
            return OURSELVES
        owner = self._directory.stat()
        if owner.st_uid != 0:
            return f"{owner.st_uid}:{owner.st_gid}"
        if may_use_namespaces(binaries):
            return NAMESPACE
        return self._give_to_nobody(binaries)

    def _give_to_nobody(self, binaries: Path) -> str:
        """Make nobody the owner of our directory, and return nobody's identity."""
        closed = [path for path in (*self._directory.parents, *binaries.parents) if not path.stat().st_mode & 0o001]
        if closed:
            message = (
                f"User namespaces are forbidden here, so root runs PostgreSQL as nobody, who cannot enter {closed[0]}. "
                "Use an ordinary user, or directories that everybody can enter."
            )
            raise PostgresUnavailable(message)
        nobody = pwd.getpwnam("nobody")
        for path in (self._directory, *self._directory.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        return f"{nobody.pw_uid}:{nobody.pw_gid}"

    def _prepare_cluster(self, binaries: Path, lock: int) -> None:
        """Check the database cluster that is there, or make one."""
        major = str(major_version(binaries))
        version_file = self._cluster / "PG_VERSION"
        if not version_file.exists():
            self._make_cluster(binaries, lock)
        elif (found := version_file.read_text().strip()) != major:
            message = (
                f"{self._cluster} holds data of PostgreSQL {found}, but PostgreSQL {major} is installed. "
                f"Delete or move {self._directory} to begin with an empty database."
            )
            raise PostgresUnavailable(message)

    def _make_cluster(self, binaries: Path, lock: int) -> None:
        """Make an empty database cluster, under another name until it is complete."""
        unfinished = self._cluster.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(24))
        self._give_to_server(unfinished, self._password)
        command = self._command(
            *(binaries / "initdb", "--pgdata", unfinished, "--username", SUPERUSER, "--pwfile", self._password),
            # Whoever reaches the socket is us; a TCP port is open to every user of the machine.
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
            # The same order of text on every machine.
            *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *("--no-sync", "--no-instructions"),
        )
        run_program(command, pass_fds=(lock,))
        unfinished.rename(self._cluster)

    def _remove_stale_pid_file(self) -> None:
        """Remove the pid file of a server that was killed.

        PostgreSQL itself takes the process for a server if it only exists, so a killed server could not be started
        again once its process id belongs to another program. We hold the lock, so no server of ours is alive; one
        started by hand works in the cluster's directory. Without /proc, PostgreSQL's own judgement has to do.
        """
        pid_file = self._cluster / "postmaster.pid"
        if not pid_file.exists() or not Path("/proc/self").exists():
            return
        pid = self._recorded_pid()
        with suppress(OSError):
            if Path("/proc", pid, "cwd").samefile(self._cluster):
                message = f"Process {pid}, which we did not start, is using {self._cluster}. Stop it first."
                raise PostgresUnavailable(message)
        pid_file.unlink()

    def _make_socket_directory(self) -> None:
        """Make the socket's directory, and clear it: a killed server leaves a lock file beside its socket."""
        with suppress(FileExistsError):
            self._socket_directory.mkdir(mode=0o700)
            self._give_to_server(self._socket_directory)
        found = self._socket_directory.lstat()
        owners = {os.geteuid(), self._directory.stat().st_uid}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
            # The system's temporary directory is everybody's: another user may have been there first.
            message = f"{self._socket_directory} is not a directory that only we can enter. Remove it."
            raise PostgresUnavailable(message)
        for leftover in self._socket_directory.glob(".s.PGSQL.*"):
            leftover.unlink()

    def _spawn(self, binaries: Path, lock: int) -> None:
        """Start the server's process from a thread that lives as long as the server.

        The kernel tells a child of its parent's death when the *thread* that made it ends.
        """
        socket_directory = str(self._socket_directory).replace('"', '""')
        settings = SERVER_SETTINGS | {
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._port or DEFAULT_PORT),
            "unix_socket_directories": f'"{socket_directory}"',
        }
        if not self._durable:
            settings |= VOLATILE_SETTINGS
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        if self._keeper is None:
            self._keeper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="postgres")
        with self._log.open("wb") as log:
            self._give_to_server(self._log)
            self._process = self._keeper.submit(
                subprocess.Popen,
                self._command(binaries / "postgres", "-D", self._cluster, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                pass_fds=(lock,),
                # Ctrl-C is for us: the server stops when we say so, after those who use it.
                start_new_session=True,
            ).result()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_DEADLINE.total_seconds()
        while self._process and not self._is_ready():
            status = self._process.poll()
            if status is None and time.monotonic() < deadline:
                time.sleep(POLL_INTERVAL.total_seconds())
                continue
            seconds = round(START_DEADLINE.total_seconds())
            fact = f"was not ready within {seconds} s" if status is None else f"ended at its start (status {status})"
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            message = f"PostgreSQL {fact}. The end of {self._log}:\n{tail}"
            raise PostgresUnavailable(message)

    def _is_ready(self) -> bool:
        """Return whether the pid file is this server's and says `ready` in its eighth line."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and "".join(lines[7:8]).strip() == "ready"

    def _recorded_pid(self) -> str:
        try:
            return (self._cluster / "postmaster.pid").read_text().partition("\n")[0]
        except FileNotFoundError:
            return "unknown"

    def _give_to_server(self, *paths: Path) -> None:
        """Make the owner of our directory own what we made in it: root may be working for somebody else."""
        owner = self._directory.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)

    def _command(self, *command: str | Path) -> list[str | Path]:
        return launched_as(self._identity, *command)

    def _run_client(self, program: str, *arguments: str) -> None:
        host, port = str(self._socket_directory), str(self._port or DEFAULT_PORT)
        connection = ("--host", host, "--port", port, "--username", SUPERUSER)
        run_program([find_binaries() / program, *connection, *arguments])
