"""Whose fault a failed transaction is: the decision between a dead letter and another try."""

from enum import Enum, auto

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Codes and classes of SQLSTATE: PostgreSQL, appendix A.
# Cardinality, data, integrity, check option, program limit, raised by a function: the same data fails again.
DATA_CLASSES = ("21", "22", "23", "44", "54", "P0")
# Two serialization failures, lock not available, query cancelled (the statement timeout); and a foreign key violation,
# which here means that a user was deleted at this moment: whoever is subscribed exists.
CONFLICTS = frozenset({"40001", "40P01", "55P03", "57014", "23503"})


class Blame(Enum):
    """What a failed transaction says about the messages it was for."""

    DATA = auto()
    """At least one of them fails again, however often it is tried."""
    LOAD = auto()
    """They got in the way of others, or were too many at once."""
    DATABASE = auto()
    """They are not to blame: the database is away, or not as this code needs it."""


def blame(error: Exception) -> Blame:
    """Return whose fault it is that a transaction failed.

    What the database says is taken for an outage unless it is known to be about the data: to try
    innocent messages in vain costs time, to give them up loses them. What is no error of the
    database or the network is a bug that these messages brought to light.
    """
    # An error while connecting comes from the driver itself, any other is wrapped.
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None) or ""
    if state in CONFLICTS:
        return Blame.LOAD
    if state.startswith(DATA_CLASSES):
        return Blame.DATA
    if state or isinstance(error, (DBAPIError, PoolTimeout, OSError)):
        return Blame.DATABASE
    return Blame.DATA
