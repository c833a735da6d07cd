"""What can go wrong, one class per thing that a user can act on. No message ever holds the access token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class PolarError(Exception):
    """Base of everything this provider raises on its own account.

    :param facts: attributes that the class has, for this error.
    """

    retryable: bool = False
    """True where the same call, made again later, may succeed without anybody changing anything."""

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            if not hasattr(self, name):
                raise TypeError(f"{type(self).__name__} has no {name}")
            setattr(self, name, value)


class PolarConfigurationError(PolarError, ValueError):
    """A parameter or the connection is wrong; known before any request. A retry does not help: fix the value."""


class PolarWindowError(PolarConfigurationError):
    """A window is naive, empty, reversed or cannot be worked out. A retry does not help."""


class PolarConnectionNotFoundError(PolarError):
    """Airflow gives no connection of that name: it is not defined, or the secrets back-end that has it is away.

    Airflow tells both alike. A retry helps where the back-end was away; else define the connection."""

    retryable = True


class PolarFilterError(PolarConfigurationError):
    """A filter is unknown or has an impossible value.

    Polar ignores unknown filters and would return everything, so they are refused here. A retry does not help."""


class PolarDestinationError(PolarError):
    """The destination of an export (or of rejected rows) cannot be written.

    Fix path, credentials or permissions; a retry helps only if the store was away for a moment."""


class PolarLocalDiskError(PolarError):
    """The worker's own disk refuses what is written on the way to the destination: it is full, for example.

    A retry helps once there is room, and goes on from what is staged in the destination."""

    retryable = True


class PolarSourceError(PolarError):
    """A source of events cannot be read.

    There is no such file, a glob is empty, a format unknown, or bytes are not the format they claim to be. A retry does
    not help until the file is there or fixed."""


class PolarSourceUnavailableError(PolarSourceError):
    """The store of a source of events failed to give it.

    A connection was lost, it took too long, or credentials are not there. A retry helps if the store was away for a
    moment."""

    retryable = True


class PolarApiError(PolarError):
    """Polar responded with an error, or did not respond. The message names the host, and the connection."""

    status: int | None = None
    """HTTP status of the response, None where there was none."""
    method: str = ""
    """HTTP method of the request."""
    path: str = ""
    """Path of the request, without query."""
    brief: str = ""
    """What happened, in a few words without host and advice; for logs."""


class PolarAuthenticationError(PolarApiError):
    """401: no token, or one that is wrong, expired or revoked.

    A retry does not help: set a valid organization access token as the connection's password (and check that its
    environment is the connection's)."""


class PolarScopeError(PolarApiError):
    """403: the token lacks a scope. A retry does not help: give the token one of :attr:`scopes`."""

    scopes: Sequence[str] = ()
    """The scopes that would do, as Polar names them (any one of them is enough)."""


class PolarNotFoundError(PolarApiError):
    """404: no such event, or meter.

    An event just ingested is also not found until it is visible (usually a second or two, more under load), so a later
    retry helps for an event that is known to be new."""


class PolarVersionError(PolarApiError):
    """404 with Polar's bare ``{"detail": "Not Found"}``.

    The API version (``api_version`` of the connection) or the base URL is unknown to the server. A retry does not
    help."""


def row_text(source: str, row: int) -> str:
    """Where a row comes from; rows, and lines of a file, count from 1."""
    return f"{source}, row {row}" if source else f"row {row}"


@dataclass(frozen=True, slots=True)
class EventProblem:
    """One problem of one event, in words.

    :param field: dotted field, e.g. ``metadata.tokens``; "" for the event as a whole.
    :param message: what is wrong.
    :param index: position in the request's ``events`` (0-based), where Polar refused it.
    :param row: the row that the event is made of, from 1, where that is known.
    :param source: the file that the row is in; "" for rows handed over in memory.
    """

    field: str
    message: str
    index: int | None = None
    row: int | None = None
    source: str = ""

    def of_row(self, source: str, row: int) -> EventProblem:
        """The same problem, told of a row and not of a request."""
        return EventProblem(self.field, self.message, row=row, source=source)

    def __str__(self) -> str:
        if self.row is not None:
            place = row_text(self.source, self.row)
        else:
            place = "" if self.index is None else f"event {self.index}"
        where = ", ".join(part for part in (place, self.field) if part)
        return f"{where}: {self.message}" if where else self.message


class PolarValidationError(PolarApiError):
    """422 (or 413): Polar refused the request; of an ingest it has stored nothing. A retry does not help."""

    problems: Sequence[EventProblem] = ()
    """Each problem once, in words, with the index of its event."""


class PolarRateLimitError(PolarApiError):
    """429: the organization's request budget is used up. Waiting helps."""

    retryable = True
    retry_after: float = 60.0
    """Seconds that Polar says to wait: its whole window, 60 or 1, and not what is left of it."""


class PolarServerError(PolarApiError):
    """5xx, and 408, 421, 425 and 499: Polar, or what is between, failed.

    A retry usually helps. Whether the request was handled is unknown: an ingest is safe to repeat only with external
    ids."""

    retryable = True


class PolarTransportError(PolarApiError):
    """No complete response: connection refused or reset, time-out, a truncated or unreadable body.

    A retry usually helps. Where something was sent, it is unknown whether the request was handled: an ingest is safe to
    repeat only with external ids."""

    retryable = True
    sent: bool = True
    """False where nothing was sent, for no connection came about (refused, unknown host, TLS, time-out)."""


class PolarResponseError(PolarTransportError):
    """A response came and cannot be used.

    It holds NaN or bytes that are not UTF-8, is JSON of another form than expected, or larger than any response may be.
    A retry does not help: the same request brings the same response; check the base URL, or tell Polar's support which
    request it is."""

    retryable = False


class PolarIncompleteError(PolarError):
    """An export could not be proved complete: the API counts rows that it does not give.

    A retry helps if they were on their way; rows that stay missing are for Polar's support."""

    retryable = True
    missing: Sequence[dict[str, Any]] = ()
    """For each discrepancy a dict with ``start``, ``end`` (ISO 8601), ``counted``, ``given``, ``reason``."""


class PolarInvalidEventsError(PolarError):
    """Events of an ingest are invalid.

    A retry does not help: fix the rows, or set them aside with ``on_invalid="skip"``."""

    problems: Sequence[EventProblem] = ()
    """The problems found, at most the first hundred."""


class PolarIdentityConflictError(PolarInvalidEventsError):
    """Two events with different content carry the same ``external_id`` in one run.

    Polar would keep the first it sees and drop the other silently. A retry does not help: give them different ids."""


class PolarIngestIncompleteError(PolarError):
    """Some batches of an ingest are stored and some are not; the message says which.

    A retry is safe and sends the rest: stored events are recognised by their identity and not billed again. It does not
    help where what stopped it needs fixing first (a token, a scope, an API version): ``retryable`` is False then."""

    retryable = True


class PolarWaitError(PolarError):
    """A wait was ended by an event named in ``fail_on``. A retry does not help."""


class PolarTableError(PolarError):
    """A table is not what a load needs: a column, a type, a right, or its events of a window. It is as it was before.

    A retry does not help: the message says what to change."""


class PolarDatabaseError(PolarError):
    """A database failed: connection lost or refused, disk full, a lock not given. The table is as it was before.

    A retry helps if the database was away for a moment; what had been loaded is known then and not loaded again."""

    retryable = True
