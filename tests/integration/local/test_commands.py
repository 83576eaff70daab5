"""The commands that set up a real system: `notify tenants` and `notify keys`, on a database of their own."""

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from local import cli

Run = Callable[..., tuple[str, str]]
Fail = Callable[..., str]

KEY = re.compile(r"nsk_[a-z0-9]{12}_[A-Za-z0-9_-]{43}\n")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path):
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns what it printed, on standard output and on standard error."""

    def run(*arguments: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["notify", *arguments])
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main()
        printed = capsys.readouterr()
        return printed.out, printed.err

    return run


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Runs a command that cannot succeed and returns what it said."""

    def fail(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["notify", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code
        printed = capsys.readouterr()
        return f"{end.value.code} {printed.out} {printed.err}"

    return fail


@pytest.fixture
def demo(run: Run) -> str:
    """The slug of a tenant that exists."""
    run("tenants", "create", "--slug", "demo", "--name", "Demo")
    return "demo"


def query(url: str, statement: str) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement)
            return rows
        finally:
            await connection.close()

    return asyncio.run(ask())


class TestTenants:
    def test_a_new_one_is_listed(self, run: Run):
        created, _ = run("tenants", "create", "--slug", "acme", "--name", "Acme, Inc.")
        listed, _ = run("tenants", "list")

        assert UUID(created.strip()).version == 7
        assert re.search(rf"^acme +Acme, Inc\. +0 +\S+ +{created.strip()}$", listed, re.MULTILINE)

    def test_none_is_said_so(self, run: Run):
        assert "no tenants yet" in run("tenants", "list")[0]

    def test_a_slug_is_taken_once(self, demo: str, fail: Fail):
        assert "There is a tenant `demo` already." in fail("tenants", "create", "--slug", demo, "--name", "Again")

    @pytest.mark.parametrize(
        "slug",
        ["", "Demo", "a b", "-a", "a-", "x" * 64, "ä", "01a2046ad51e7728a941645a08c3b4ec",
         "01a2046a-d51e-7728-a941-645a08c3b4ec"],
    )  # fmt: skip
    def test_a_slug_that_no_token_should_hold_is_refused(self, fail: Fail, slug: str):
        assert "--slug should" in fail("tenants", "create", f"--slug={slug}", "--name", "A name")

    @pytest.mark.parametrize("name", [" ", "x" * 201, "a\nb"])
    def test_a_name_is_a_line(self, fail: Fail, name: str):
        assert "--name should be a line of text" in fail("tenants", "create", "--slug", "acme", "--name", name)


class TestKeys:
    def test_a_new_key_is_shown_once(self, run: Run, demo: str, database_url: str):
        key, explanation = run("keys", "create", "--tenant", demo, "--name", "ci", "--scope", "users:write")
        listed, _ = run("keys", "list")

        assert KEY.fullmatch(key)
        assert "not shown again" in explanation
        assert key.strip() not in listed
        assert key[:16] in listed
        [row] = query(database_url, "SELECT name, scopes, expires_at FROM api_keys")
        assert tuple(row) == ("ci", ["users:write"], None)

    def test_a_key_can_end_by_itself(self, run: Run, demo: str, database_url: str):
        run("keys", "create", "--tenant", demo, "--name", "ci", "--scope", "users:write", "--expires-in", "90d")

        [row] = query(database_url, "SELECT (expires_at - created_at)::text FROM api_keys")
        assert row[0] == "90 days"

    def test_the_list_says_what_became_of_each(self, run: Run, demo: str):
        create = ["keys", "create", "--tenant", demo, "--scope", "users:write"]
        first, _ = run(*create, "--name", "first", "--by", "alice")
        run(*create, "--name", "second", "--by", "bob")
        run("keys", "revoke", first[:16], "--by", "carol")

        header, second, revoked = run("keys", "list", "--tenant", demo)[0].splitlines()
        assert header.split()[:5] == ["KEY", "TENANT", "NAME", "SCOPES", "STATE"]
        assert re.search(r"second +users:write +active +\S+ \S+Z by bob +never +never", second)
        assert re.search(r"first +users:write +revoked +\S+ \S+Z by alice +never +never +\S+ \S+Z by carol", revoked)

    def test_the_audit_knows_who_even_if_nobody_says(
        self, run: Run, demo: str, database_url: str, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("LOGNAME", "login-name")

        run("keys", "create", "--tenant", demo, "--name", "ci", "--scope", "users:write")

        assert [tuple(row) for row in query(database_url, "SELECT action, actor FROM api_key_audit_entries")] == [
            ("created", "login-name")
        ]

    @pytest.mark.parametrize("name_it", ["prefix", "prefix without nsk_", "id", "the whole key"])
    def test_a_key_is_revoked_by_any_of_its_names(self, run: Run, demo: str, database_url: str, name_it: str):
        key, _ = run("keys", "create", "--tenant", demo, "--name", "ci", "--scope", "users:write")
        [row] = query(database_url, "SELECT id::text FROM api_keys")
        names = {"prefix": key[:16], "prefix without nsk_": key[4:16], "id": row[0], "the whole key": key.strip()}

        said, _ = run("keys", "revoke", names[name_it])

        assert f"{key[:16]} (ci) revoked" in said
        assert "was revoked already" in run("keys", "revoke", names[name_it])[0]
        assert query(database_url, "SELECT count(*) FROM api_key_audit_entries")[0][0] == 2

    def test_an_unknown_key_is_not_repeated(self, fail: Fail):
        for given in ("nsk_abcdefghijkl", "01a2046a-d51e-7728-a941-645a08c3b4ec", f"nsk_abcdefghijkl_{'s' * 43}"):
            said = fail("keys", "revoke", given)

            assert "There is no such key" in said
            assert given not in said

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"--tenant": "nowhere"}, "There is no tenant `nowhere`"),
            ({"--scope": "users:everything"}, "There is no scope users:everything. There are: dead_letters:read,"),
            ({"--expires-in": "0s"}, "--expires-in should be"),
            ({"--expires-in": "-1d"}, "--expires-in should be"),
            ({"--expires-in": "11y"}, "--expires-in should be"),
            ({"--expires-in": "soon"}, "soon"),
            ({"--name": " "}, "--name should be a line of text"),
            ({"--by": "a\nb"}, "--by should be a line of text"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, fail: Fail, demo: str, database_url: str, changes: dict[str, str], message: str
    ):
        options = {"--tenant": demo, "--name": "ci", "--scope": "users:write", **changes}

        said = fail("keys", "create", *(f"{name}={value}" for name, value in options.items()))

        assert message in " ".join(said.split())
        assert query(database_url, "SELECT count(*) FROM api_keys")[0][0] == 0

    def test_a_list_of_none_is_said_so(self, run: Run, fail: Fail):
        assert "no keys yet" in run("keys", "list")[0]
        assert "There is no tenant" in fail("keys", "list", "--tenant", "nowhere")


class TestDatabase:
    def test_without_any_it_is_said_how_to_name_one(self, fail: Fail, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("DATABASE_URL")

        assert "Set DATABASE_URL" in fail("tenants", "list")

    def test_a_local_system_that_does_not_run_is_said_so(self, fail: Fail, tmp_path: Path):
        (tmp_path / "jwt-secret").write_text("secret")

        assert "Is the local system in" in fail("tenants", "list", "--directory", str(tmp_path))

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("postgresql://127.0.0.1:1/none", "The database cannot be reached"),
            ("mysql://127.0.0.1/none", "DATABASE_URL: Value error, must look like postgresql://"),
        ],
    )
    def test_one_that_cannot_be_reached_is_said_so(
        self, fail: Fail, monkeypatch: pytest.MonkeyPatch, url: str, message: str
    ):
        monkeypatch.setenv("DATABASE_URL", url)

        assert message in fail("tenants", "list")

    def test_one_without_tables_is_to_be_migrated(self, fail: Fail, monkeypatch: pytest.MonkeyPatch, database_url: str):
        monkeypatch.setenv("DATABASE_URL", re.sub(r"/test_\d+", "/postgres", database_url))

        assert "run `notify migrate`" in fail("tenants", "list")
