"""What PyIceberg's errors become: messages that say what to do, and nothing of an event's content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_polar.exceptions import PolarDatabaseError, PolarError, PolarTableError

_PASSING = {
    "AuthorizationExpiredError",
    "CommitStateUnknownException",
    "DBAPIError",  # of a catalogue in an SQL database
    "OSError",
    "ServerError",
    "ServiceUnavailableError",
    "TooManyRequestsError",
    "WaitingForLockException",
}
_LASTING = {"PermissionError", "FileNotFoundError", "ProgrammingError"}
_TOLD = ("pyiceberg.", "sqlalchemy.", "requests.")
_PACKAGES = (*_TOLD, "pyarrow.")


@contextmanager
def telling(doing: str, where: str) -> Iterator[None]:
    """Turns an error of PyIceberg, its catalogue or its store into one of ours.

    :param doing: what was done, as in ``load [a, b) into usage.events``.
    :param where: the catalogue, in words.
    :raises PolarDatabaseError: the catalogue or the store failed; a retry may help.
    :raises PolarTableError: it refuses what was done; a retry does not help.
    """
    try:
        yield
    except PolarError:
        raise
    except Exception as error:
        if not isinstance(error, (OSError, ValueError, NotImplementedError)) and not _of(error, _PACKAGES):
            raise
        message = f"cannot {doing} in {where}: {type(error).__name__}{_reason(error)}"
        classes = {cls.__name__ for cls in type(error).__mro__}
        # Not chained: Arrow's errors quote the value that they are about.
        if classes & _PASSING and not classes & _LASTING:
            raise PolarDatabaseError(
                f"{message}. No reader sees a part of it; a retry helps if catalogue or store was away or full, and "
                "finds what was committed"
            ) from None
        raise PolarTableError(f"{message}. The table is as it was") from None


def _of(error: Exception, packages: tuple[str, ...]) -> bool:
    return type(error).__module__.startswith(packages)


def _reason(error: Exception) -> str:
    """The first line of an error that knows names and places only; "" for one that may quote a value."""
    if not isinstance(error, OSError) and not _of(error, _TOLD):
        return ""
    lines = str(error).strip().splitlines()
    return f": {lines[0].rstrip('.')}" if lines else ""
