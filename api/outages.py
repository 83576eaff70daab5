"""Tells the failures that pass by themselves from those that are our bugs."""

from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout

# Classes of SQLSTATE (PostgreSQL, appendix A): connection exceptions, failed log-ins, missing databases,
# conflicts with other transactions, lack of resources, interventions of the operator (a statement
# timeout and a shutdown among them).
OUTAGE_CLASSES = ("08", "28", "3D", "40", "53", "57")
LOCK_NOT_AVAILABLE = "55P03"


def is_outage(error: BaseException) -> bool:
    """Tell whether the database is away or too busy, so that the same request may succeed later."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return (
            error.connection_invalidated
            or isinstance(error, InterfaceError)
            or is_lock_timeout(error)
            or state.startswith(OUTAGE_CLASSES)
            or isinstance(error.orig, OSError)
        )
    # The driver passes on what the network told it: refused, unreachable, timed out.
    return isinstance(error, (PoolTimeout, OSError))


def is_lock_timeout(error: DBAPIError) -> bool:
    """Tell whether the database gave up waiting for a lock that another transaction holds."""
    return str(getattr(error.orig, "sqlstate", None) or "") == LOCK_NOT_AVAILABLE
