"""How an ingest is to go; light, for it is imported where DAGs are parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DEFAULT_BATCH_SIZE = 1000
"""Polar's throughput levels off here."""
DEFAULT_CONCURRENCY, MAX_CONCURRENCY = 4, 16

OnInvalid = Literal["fail", "skip"]
OnChanged = Literal["fail", "skip"]
UnknownParents = Literal["reject", "accept"]


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    :param scope: the scope of derived identities, see :mod:`airflow_provider_polar.engine.ingesting.identity`.
    :param on_invalid: ``fail`` sends nothing if any row is invalid, ``skip`` sets invalid rows aside.
    :param on_changed: what to do with rows that are known to have been sent earlier with other content under the same
        ``external_id``: ``fail`` sends nothing, ``skip`` sets them aside. Polar keeps the first content either way.
    :param unknown_parents: what to do with a ``parent_id`` that is neither an event of this run nor an event id at
        Polar: ``reject`` the row (one request for each such id), or ``accept`` it without.
    :param batch_size: events of a request at most.
    :param max_concurrency: requests in flight.
    :param dry_run: check and count only.
    :param owner: tells this ingest's file of rejected rows from another one's; default the scope.
    """

    scope: str
    on_invalid: OnInvalid = "fail"
    on_changed: OnChanged = "fail"
    unknown_parents: UnknownParents = "reject"
    batch_size: int = DEFAULT_BATCH_SIZE
    max_concurrency: int = DEFAULT_CONCURRENCY
    dry_run: bool = False
    owner: str = ""

    @property
    def skips(self) -> bool:
        """Whether invalid rows are set aside."""
        return self.on_invalid == "skip"
