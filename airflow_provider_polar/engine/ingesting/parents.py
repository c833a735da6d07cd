"""Parents that events of a run name: Polar accepts an unknown one, and hides the event until it arrives."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.ingesting.spool import Spooled
from airflow_provider_polar.exceptions import PolarNotFoundError

_REMEDY = (
    "the event would stay invisible until its parent arrives: if an earlier run has sent that, or a later one will, "
    "set unknown_parents='accept'"
)
_VISIBLE_WITHIN = (1.0, 2.0, 4.0)
"""Seconds to wait, one after the other, for a parent that may be new."""

CHILD_OF_REJECTED = "is an event of this run that is rejected itself"


class Released(NamedTuple):
    """A held event: 0 or more generations below an event without a parent in the run; ``reason`` if it is an orphan."""

    event: Spooled
    generation: int
    reason: str | None


class HeldEvents:
    """Events that are not sent before everything is read: children, and others whose id a later row may claim.

    They are kept in a temporary database that spills to disk. Not thread-safe.
    """

    def __init__(self) -> None:
        self._held = sqlite3.connect("", isolation_level=None)
        self._held.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;
            CREATE TABLE held (
                n INTEGER PRIMARY KEY, id TEXT, parent TEXT, source INTEGER, number INTEGER, payload BLOB
            );
            CREATE TABLE missing (parent TEXT PRIMARY KEY, reason TEXT) WITHOUT ROWID;
            BEGIN;
            """
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def add(self, event: Spooled, external_id: str, parent: str | None) -> None:
        """Holds one event back."""
        self._held.execute("INSERT INTO held VALUES (NULL, ?, ?, ?, ?, ?)", (external_id, parent, *event))

    def release(self, missing: Mapping[str, str]) -> Iterator[Released]:
        """Every event, parents before children; of those whose parents are in a circle, in the order of their rows.

        :param missing: parents that are not there, with the reason.
        """
        self._held.executemany("INSERT INTO missing VALUES (?, ?)", missing.items())
        self._held.execute("CREATE INDEX by_parent ON held (parent) WHERE parent IS NOT NULL")
        self._held.execute("CREATE INDEX by_id ON held (id)")
        for source, number, payload, generation, reason in self._held.execute(
            """
            WITH RECURSIVE tree (n, id, generation, reason) AS (
                SELECT n, id, 0, (SELECT reason FROM missing WHERE missing.parent = held.parent) FROM held
                WHERE parent IS NULL OR parent NOT IN (SELECT id FROM held)
                UNION ALL
                SELECT held.n, held.id, generation + 1, iif(reason IS NULL, NULL, ?)
                FROM tree JOIN held ON held.parent = tree.id
            )
            SELECT source, number, payload, coalesce(generation, 0), reason
            FROM held LEFT JOIN tree USING (n) ORDER BY 4, held.n
            """,
            (CHILD_OF_REJECTED,),
        ):
            yield Released(Spooled(source, number, payload), generation, reason)


def missing_parents(
    parents: Iterable[str],
    client: Callable[[], PolarClient],
    *,
    accept_unknown: bool,
    max_concurrency: int,
    log: Any,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, str]:
    """Which of the parents are not there, with the reason in words.

    :param parents: ``parent_id`` values that are no event of the run; Polar is requested for its event ids, one by one.
    :param accept_unknown: take all of them on trust, without a request.
    """
    if accept_unknown:
        if trusted := sum(1 for _ in parents):
            log.warning(
                "%s parents are not in this run and are taken on trust; their children stay invisible at Polar until "
                "they are there.",
                f"{trusted:,}",
            )
        return {}
    ids: list[str] = []
    missing: dict[str, str] = {}
    for parent in parents:
        if _is_uuid(parent):
            ids.append(parent)
        else:
            missing[parent] = f"is no valid event of this run, and Polar has no look-up by external_id; {_REMEDY}"
    for pause in (*_VISIBLE_WITHIN, None):
        ids = _not_found(ids, client, max_concurrency)
        if not ids or pause is None:
            break
        sleep(pause)
    for parent in ids:
        missing[parent] = f"is neither an event at Polar nor a valid one of this run; {_REMEDY}"
    return missing


def _not_found(ids: list[str], client: Callable[[], PolarClient], max_concurrency: int) -> list[str]:
    if not ids:
        return []
    polar = client()

    def is_missing(parent: str) -> bool:
        try:
            polar.get(parent)
        except PolarNotFoundError:
            return True
        return False

    with ThreadPoolExecutor(max_concurrency) as pool:
        return [parent for parent, gone in zip(ids, pool.map(is_missing, ids), strict=True) if gone]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
