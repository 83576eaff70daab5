import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.failures import Blame, blame


def wrapped(error: Exception) -> DBAPIError:
    return DBAPIError("SELECT 1", {}, error)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (wrapped(asyncpg.RaiseError("poison")), Blame.DATA),
        (wrapped(asyncpg.DataError("poison")), Blame.DATA),
        (wrapped(asyncpg.CheckViolationError("poison")), Blame.DATA),
        (KeyError("our bug"), Blame.DATA),
        (wrapped(asyncpg.ForeignKeyViolationError("a user was deleted")), Blame.LOAD),
        (wrapped(asyncpg.DeadlockDetectedError("deadlock")), Blame.LOAD),
        (wrapped(asyncpg.SerializationError("conflict")), Blame.LOAD),
        (wrapped(asyncpg.LockNotAvailableError("lock timeout")), Blame.LOAD),
        (wrapped(asyncpg.QueryCanceledError("statement timeout")), Blame.LOAD),
        (wrapped(asyncpg.AdminShutdownError("shutdown")), Blame.DATABASE),
        (wrapped(asyncpg.ConnectionDoesNotExistError("reset")), Blame.DATABASE),
        (wrapped(asyncpg.UndefinedColumnError("an old schema")), Blame.DATABASE),
        (wrapped(asyncpg.ReadOnlySQLTransactionError("a standby")), Blame.DATABASE),
        (wrapped(asyncpg.DiskFullError("disk full")), Blame.DATABASE),
        (asyncpg.CannotConnectNowError("starting up"), Blame.DATABASE),
        (OperationalError("SELECT 1", {}, OSError("reset")), Blame.DATABASE),
        (PoolTimeout("all connections are in use"), Blame.DATABASE),
        (ConnectionRefusedError(), Blame.DATABASE),
        (TimeoutError(), Blame.DATABASE),
    ],
    ids=repr,
)
def test_only_what_fails_again_is_blamed_on_the_data(error: Exception, expected: Blame):
    assert blame(error) is expected
