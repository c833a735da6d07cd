"""What databases' errors become: messages that say what to do, and nothing of an event's content."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from airflow_provider_polar.exceptions import PolarDatabaseError, PolarError, PolarTableError

_OPENING = re.compile(r"(?<!\w)[\"'`]")
PASSING = ("OperationalError", "InterfaceError", "InternalError")


@contextmanager
def telling(doing: str, where: str, known: Collection[str] = ()) -> Iterator[None]:
    """Turns a database's error into one of ours.

    :param doing: what was done, as in ``load [a, b) into events``.
    :param where: the database, in words.
    :param known: names that the message may have.
    :raises PolarDatabaseError: the database failed; a retry may help.
    :raises PolarTableError: it refuses what was done; a retry does not help.
    """
    try:
        yield
    except PolarError:
        raise
    except Exception as error:
        if not is_a("Error", error):
            raise
        message = f"cannot {doing} in {where}: {type(error).__name__}: {reason(error, known)}. The table is as it was"
        # Not chained: a driver's error may quote the row that it is about.
        if any(is_a(name, error) for name in PASSING):
            raise PolarDatabaseError(f"{message}; a retry helps if the database was away or full") from None
        raise PolarTableError(message) from None


def is_a(name: str, error: Exception) -> bool:
    """Whether an error is one of PEP 249, whose classes each driver has of its own."""
    return any(cls.__name__ == name for cls in type(error).__mro__)


def reason(error: Exception, known: Collection[str]) -> str:
    """The first line of an error, its quoted values left out: they may be an event's."""
    diagnosis = getattr(error, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or (str(error.args[-1]) if error.args else "")
    return _without_values((text.strip() or "no reason given").splitlines()[0].rstrip("."), known)


def _without_values(text: str, known: Collection[str]) -> str:
    kept, at = "", 0
    while opening := _OPENING.search(text, at):
        quote, start = opening[0], opening.end()
        end = text.find(quote, start)
        if end >= 0 and text[start:end] in known:
            kept, at = kept + text[at : end + 1], end + 1
        else:
            # A value may have quotes within it, so all up to the last one goes, or all there is.
            last = text.rfind(quote)
            kept, at = kept + text[at : opening.start()] + "…", last + 1 if last >= start else len(text)
    return kept + text[at:]
