"""The embedded PostgreSQL, for real: nothing here is patched but what cannot be had otherwise."""

import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from local import postgres
from local.postgres import EmbeddedPostgres
from local.postgres_programs import PostgresUnavailable, find_binaries

REPOSITORY = Path(__file__).parents[3]
PATIENCE = 20
NOBODY = 65534

# Any Python of the machine can run the parent: the module under test needs the standard library only.
PARENT_ENVIRONMENT = {
    "PYTHONPATH": f"{REPOSITORY}:{find_binaries().parents[2]}",
    "PYTHONDONTWRITEBYTECODE": "1",
}
PARENT = """
import sys
from pathlib import Path
from local.postgres import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]), durable=False)
server.start()
print(server.pid, flush=True)
sys.stdin.read()
server.stop()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, and one that other users can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="pg-test-") as parent:
        Path(parent).chmod(0o755)
        yield Path(parent) / "postgres"


@pytest.fixture
def server(directory: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(directory, durable=False) as server:
        yield server


async def ask(dsn: str, sql: str) -> object:
    engine = create_async_engine(dsn)
    try:
        async with engine.begin() as connection:
            result = await connection.execute(text(sql))
            return result.scalar() if result.returns_rows else None
    finally:
        await engine.dispose()


def make_cluster(directory: Path) -> None:
    with EmbeddedPostgres(directory, durable=False):
        pass


def wait_for_end(pid: int) -> None:
    """Return when a process that need not be our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([descriptor], [], [], PATIENCE)
    os.close(descriptor)
    assert ended, f"process {pid} still runs"


def wait_until_unused(directory: Path) -> None:
    """Return when no process of a server of this directory is left: all of them hold its lock."""
    descriptor = os.open(directory, os.O_RDONLY)
    released = threading.Event()

    def take() -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        released.set()

    threading.Thread(target=take, daemon=True).start()
    assert released.wait(PATIENCE), "a process of the server still runs"
    os.close(descriptor)


def start_parent(directory: Path, python: str = sys.executable, user: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-c", PARENT, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=PARENT_ENVIRONMENT,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )


def reported_pid(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout
    return int(parent.stdout.readline())


class TestStart:
    @pytest.mark.asyncio
    async def test_a_new_server_speaks_utf8_and_sorts_by_code_point(self, server: EmbeddedPostgres) -> None:
        assert await ask(server.dsn("postgres"), "SHOW server_encoding") == "UTF8"
        assert await ask(server.dsn("postgres"), "SELECT upper('é') || ('Z' < 'a')") == "Étrue"

    @pytest.mark.asyncio
    async def test_only_a_durable_server_syncs(self, directory: Path) -> None:
        for durable, fsync in ((True, "on"), (False, "off")):
            with EmbeddedPostgres(directory, durable=durable) as server:
                assert await ask(server.dsn("postgres"), "SHOW fsync") == fsync

    @pytest.mark.asyncio
    async def test_data_is_still_there_after_a_restart(self, directory: Path) -> None:
        with EmbeddedPostgres(directory) as server:
            server.create_database("kept")
            await ask(server.dsn("kept"), "CREATE TABLE scenarios AS SELECT 7 AS id")

        with EmbeddedPostgres(directory) as server:
            assert await ask(server.dsn("kept"), "SELECT id FROM scenarios") == 7

    def test_nobody_else_can_enter(self, server: EmbeddedPostgres, directory: Path) -> None:
        assert server.pid
        assert [path.stat().st_mode & 0o077 for path in (directory, directory / "socket")] == [0, 0]

    @pytest.mark.asyncio
    async def test_there_is_no_tcp_unless_asked_for(self, server: EmbeddedPostgres) -> None:
        assert await ask(server.dsn("postgres"), "SHOW listen_addresses") == ""

    @pytest.mark.asyncio
    async def test_tcp_asks_for_the_password(self, directory: Path, unused_tcp_port: int) -> None:
        with EmbeddedPostgres(directory, durable=False, port=unused_tcp_port) as server:
            connection = await asyncpg.connect(server.tcp_dsn("postgres"))
            await connection.close()

            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(server.tcp_dsn("postgres"), password="guessed")
            assert await ask(server.dsn("postgres"), "SELECT 1") == 1

    @pytest.mark.asyncio
    async def test_a_long_path_gets_its_socket_elsewhere(self, directory: Path) -> None:
        with EmbeddedPostgres(directory / ("long" * 25), durable=False) as server:
            socket_directory = server._socket_directory

            assert await ask(server.dsn("postgres"), "SELECT 1") == 1
            assert socket_directory.parent == Path(tempfile.gettempdir())
            assert socket_directory.stat().st_mode & 0o077 == 0

        assert not socket_directory.exists()

    def test_a_socket_directory_of_somebody_else_is_refused(self, directory: Path) -> None:
        server = EmbeddedPostgres(directory / ("long" * 25), durable=False)
        server._socket_directory.mkdir(mode=0o700)
        server._socket_directory.chmod(0o777)

        try:
            with pytest.raises(PostgresUnavailable, match="only we can enter"):
                server.start()
        finally:
            server._socket_directory.rmdir()

    def test_a_server_that_ends_at_once_shows_the_end_of_its_log(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(postgres.SERVER_SETTINGS, "max_connections", "many")

        with pytest.raises(PostgresUnavailable, match=r'(?s)ended at its start.*"max_connections": "many"'):
            EmbeddedPostgres(directory).start()

    def test_data_of_another_major_version_is_refused_with_a_way_out(self, directory: Path) -> None:
        make_cluster(directory)
        (directory / "cluster" / "PG_VERSION").write_text("9\n")

        with pytest.raises(PostgresUnavailable, match=r"holds data of PostgreSQL 9, .* Delete or move"):
            EmbeddedPostgres(directory).start()

    def test_a_half_made_cluster_is_made_anew(self, directory: Path) -> None:
        (directory / "cluster.new" / "base").mkdir(parents=True)

        with EmbeddedPostgres(directory, durable=False) as server:
            assert server.pid


class TestDirectoryInUse:
    @pytest.mark.asyncio
    async def test_a_second_server_is_refused_and_the_first_lives_on(
        self, server: EmbeddedPostgres, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres, "HANDOVER_DEADLINE", timedelta(0))

        with pytest.raises(PostgresUnavailable, match=rf"already running on .* \(process {server.pid}\)"):
            EmbeddedPostgres(directory).start()
        assert await ask(server.dsn("postgres"), "SELECT 1") == 1

    def test_a_server_started_by_hand_is_noticed(self, directory: Path) -> None:
        make_cluster(directory)
        with subprocess.Popen(["sleep", "60"], cwd=directory / "cluster") as by_hand:
            (directory / "cluster" / "postmaster.pid").write_text(f"{by_hand.pid}\n")

            with pytest.raises(PostgresUnavailable, match=f"Process {by_hand.pid}, which we did not start"):
                EmbeddedPostgres(directory).start()
            by_hand.kill()

    def test_a_pid_file_of_a_dead_process_is_no_obstacle(self, directory: Path) -> None:
        with EmbeddedPostgres(directory, durable=False) as server:
            os.kill(server.pid or 0, signal.SIGKILL)
            wait_until_unused(directory)
            assert (directory / "cluster" / "postmaster.pid").exists()

            server.start()

            assert server.pid

    def test_a_pid_file_that_names_another_program_is_no_obstacle(self, directory: Path) -> None:
        with EmbeddedPostgres(directory, durable=False) as server:
            os.kill(server.pid or 0, signal.SIGKILL)
            wait_until_unused(directory)
            with subprocess.Popen(["sleep", "60"]) as stranger:
                for name in ("cluster/postmaster.pid", "socket/.s.PGSQL.5432.lock"):
                    path = directory / name
                    _, _, rest = path.read_text().partition("\n")
                    path.write_text(f"{stranger.pid}\n{rest}")

                server.start()

                assert server.pid != stranger.pid
                stranger.kill()


class TestStop:
    def test_stopping_twice_or_before_the_start_does_nothing(self, directory: Path) -> None:
        server = EmbeddedPostgres(directory, durable=False)
        server.stop()
        server.start()
        server.stop()
        server.stop()

        assert server.pid is None
        wait_until_unused(directory)

    def test_a_server_that_does_not_listen_is_killed(
        self, server: EmbeddedPostgres, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        brief = timedelta(milliseconds=100)
        steps = ((signal.SIGINT, brief), (signal.SIGQUIT, brief), (signal.SIGKILL, None))
        monkeypatch.setattr(postgres, "SHUTDOWN_STEPS", steps)
        os.kill(server.pid or 0, signal.SIGSTOP)

        server.stop()

        wait_until_unused(directory)


class TestDatabases:
    @pytest.mark.asyncio
    async def test_a_database_can_be_a_copy_of_another(self, server: EmbeddedPostgres) -> None:
        server.create_database("original")
        await ask(server.dsn("original"), "CREATE TABLE scenarios AS SELECT 7 AS id")

        server.create_database("a copy?", template="original")

        assert await ask(server.dsn("a copy?"), "SELECT id FROM scenarios") == 7

    @pytest.mark.asyncio
    async def test_a_database_in_use_can_be_dropped(self, server: EmbeddedPostgres) -> None:
        server.create_database("doomed")
        engine = create_async_engine(server.dsn("doomed"))
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

            server.drop_database("doomed")

            await connection.invalidate()
        await engine.dispose()
        assert await ask(server.dsn("postgres"), "SELECT count(*) FROM pg_database WHERE datname = 'doomed'") == 0

    def test_dropping_what_is_not_there_is_fine_and_creating_twice_is_not(self, server: EmbeddedPostgres) -> None:
        server.drop_database("missing")
        server.create_database("once")

        with pytest.raises(PostgresUnavailable, match='"once" already exists'):
            server.create_database("once")


@on_linux
class TestParentDeath:
    def test_nothing_runs_on_after_the_parent_is_killed(self, directory: Path) -> None:
        with start_parent(directory) as parent:
            pid = reported_pid(parent)

            parent.kill()

        wait_for_end(pid)
        wait_until_unused(directory)

    def test_the_directory_can_be_used_again_at_once(self, directory: Path) -> None:
        with start_parent(directory) as parent:
            reported_pid(parent)
            parent.kill()

        with EmbeddedPostgres(directory, durable=False) as server:
            assert server.pid

    def test_the_end_of_the_thread_that_started_it_is_not_the_end_of_the_server(self, directory: Path) -> None:
        server = EmbeddedPostgres(directory, durable=False)
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()

        with pytest.raises(subprocess.TimeoutExpired):
            server._process and server._process.wait(0.5)

        server.stop()


def nobody_can_run(*command: str | Path) -> bool:
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            env=PARENT_ENVIRONMENT,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.fixture
def reachable_programs() -> None:
    if not nobody_can_run(find_binaries() / "postgres", "--version"):
        pytest.skip("other users cannot reach the virtual environment")


@pytest.fixture
def everybodys_python() -> str:
    """A Python for nobody: the one of the virtual environment may be below a directory of root's."""
    for python in (sys.executable, "/usr/bin/python3"):
        if nobody_can_run(python, "-c", "from local.postgres_programs import *; major_version(find_binaries())"):
            return python
    pytest.skip("other users can reach no Python that is new enough, or not this checkout")


@as_root
class TestRoot:
    def test_root_keeps_its_files(self, server: EmbeddedPostgres, directory: Path) -> None:
        assert server.pid
        assert {path.stat().st_uid for path in directory.rglob("*")} == {0}

    @pytest.mark.usefixtures("reachable_programs")
    def test_the_server_belongs_to_nobody_where_namespaces_are_forbidden(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres, "may_use_namespaces", lambda _: False)

        with EmbeddedPostgres(directory, durable=False) as server:
            assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
            assert {path.stat().st_uid for path in directory.rglob("*")} == {NOBODY}

    @pytest.mark.usefixtures("reachable_programs")
    def test_a_directory_that_nobody_can_reach_is_refused(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgres, "may_use_namespaces", lambda _: False)
        directory.parent.chmod(0o700)

        with pytest.raises(PostgresUnavailable, match=f"nobody, who cannot enter {directory.parent}"):
            EmbeddedPostgres(directory).start()

    @pytest.mark.usefixtures("reachable_programs")
    def test_root_works_for_the_user_who_owns_the_directory(self, directory: Path) -> None:
        directory.mkdir()
        os.chown(directory, NOBODY, NOBODY)

        with EmbeddedPostgres(directory, durable=False):
            assert {path.stat().st_uid for path in directory.rglob("*")} == {NOBODY}

    def test_a_directory_of_root_is_refused_to_others(self, directory: Path, everybodys_python: str) -> None:
        make_cluster(directory)
        attempt = PARENT.replace("server.start()", "try: server.start()\nexcept Exception as error: sys.exit(error)")

        result = subprocess.run(
            [everybodys_python, "-c", attempt, str(directory)],
            check=False,
            capture_output=True,
            text=True,
            env=PARENT_ENVIRONMENT,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )

        assert f"{directory} belongs to another user" in result.stderr.splitlines()[-1]

    def test_an_ordinary_user_needs_no_privileges(self, directory: Path, everybodys_python: str) -> None:
        os.chown(directory.parent, NOBODY, NOBODY)

        with start_parent(directory, everybodys_python, NOBODY) as parent:
            pid = reported_pid(parent)
            assert Path(f"/proc/{pid}").stat().st_uid == NOBODY
            parent.kill()

        wait_for_end(pid)
        wait_until_unused(directory)
