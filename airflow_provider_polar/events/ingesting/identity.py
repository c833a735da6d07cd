"""Who an event is: the ``external_id`` under which Polar stores it once and never again.

The promise. An event without an ``external_id`` of its own gets one that is derived from

- the scope: by default the task's run (dag id, task id, run id, map index),
- the event's content in canonical form: the order of keys, how a number is written (``1``, ``1.0``, ``1e0``) and the
  zone or the precision beyond microseconds of its timestamp make no difference; ``true``, ``1`` and ``"1"`` differ,
- which repetition of equal content within the run it is.

So it depends neither on the order of the rows, nor on batches, nor on the attempt. Its limits: content that
changes between two attempts (a timestamp taken while reading, say) is another event, and so is the same content in
another run, unless ``idempotency_scope`` says what the runs have in common.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

_PREFIX = "airflow-v1-"
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
CONTENT_SCOPE = '["content"]'
"""The scope that has nothing in it: equal content is the same event in every run, task and DAG."""


def run_scope(dag_id: str, task_id: str, run_id: str, member: int | str) -> str:
    """The scope of one task instance, whatever its attempt.

    :param member: which of a mapped task's instances: its source, or its index; -1 for a task that is not mapped.
    """
    return json.dumps(["run", dag_id, task_id, run_id, member])


def named_scope(name: str) -> str:
    """A scope of the user's choice: a file's name, a business date; shared by all tasks that name it."""
    return json.dumps(["named", name])


def canonical(event: Mapping[str, Any]) -> bytes:
    """A validated event's content, its ``external_id`` left out, as bytes that are equal for equal content."""
    content = {field: value for field, value in event.items() if field != "external_id"}
    if metadata := content.get("metadata"):
        content["metadata"] = {key: _plain(value) for key, value in metadata.items()}
        if cost := metadata.get("_cost"):
            amount = format(Decimal(str(cost["amount"])).normalize() + 0, "f")
            content["metadata"]["_cost"] = {**cost, "amount": amount}
    return _CANONICAL.encode(content).encode()


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def derive(scope: str, content: bytes, occurrence: int) -> str:
    """The derived ``external_id`` of the n-th event (from 0) with this content in this scope."""
    parts = (scope.encode(), content, str(occurrence).encode())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return _PREFIX + digest.hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Conflict:
    """The event's explicit ``external_id`` stands for different content in an earlier row.

    :param first: (source number, row number) of that row.
    """

    first: tuple[int, int]


class Identities:
    """Gives every event of one run its identity. Digests are kept in a temporary database that spills to disk:
    memory does not grow with the number of events. Not thread-safe.

    :param scope: from :func:`run_scope`, :func:`named_scope`, or :data:`CONTENT_SCOPE`.
    """

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self._known = sqlite3.connect("", isolation_level=None)
        self._known.executescript(
            """
            PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16000;
            CREATE TABLE content (digest BLOB PRIMARY KEY, occurrences INTEGER) WITHOUT ROWID;
            CREATE TABLE explicit (id BLOB PRIMARY KEY, digest BLOB, source INTEGER, number INTEGER) WITHOUT ROWID;
            CREATE TABLE parents (id BLOB PRIMARY KEY, parent TEXT) WITHOUT ROWID;
            BEGIN;
            """
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._known.close()

    def identify(self, event: Mapping[str, Any], place: tuple[int, int]) -> str | Conflict | None:
        """The event's ``external_id``; None where the run has this very event under this explicit id already.

        :param place: (source number, row number), for conflicts.
        """
        content = canonical(event)
        digest = hashlib.sha256(content).digest()[:16]
        if parent := event.get("parent_id"):
            self._known.execute("INSERT OR IGNORE INTO parents VALUES (?, ?)", (_key(parent), parent))
        external_id: str | None = event.get("external_id")
        if external_id is None:
            return derive(self.scope, content, self._occurrence(digest))
        added = self._known.execute(
            "INSERT OR IGNORE INTO explicit VALUES (?, ?, ?, ?)", (_key(external_id), digest, *place)
        )
        if added.rowcount:
            return external_id
        known, source, number = self._known.execute(
            "SELECT digest, source, number FROM explicit WHERE id = ?", (_key(external_id),)
        ).fetchone()
        return None if known == digest else Conflict((source, number))

    def _occurrence(self, digest: bytes) -> int:
        if self._known.execute("INSERT OR IGNORE INTO content VALUES (?, 1)", (digest,)).rowcount:
            return 0
        self._known.execute("UPDATE content SET occurrences = occurrences + 1 WHERE digest = ?", (digest,))
        (count,) = self._known.execute("SELECT occurrences FROM content WHERE digest = ?", (digest,)).fetchone()
        return int(count) - 1

    def foreign_parents(self) -> Iterator[str]:
        """Every ``parent_id`` that is no explicit ``external_id`` of this run, each once."""
        for (parent,) in self._known.execute(
            "SELECT parent FROM parents WHERE id NOT IN (SELECT id FROM explicit) ORDER BY parent"
        ):
            yield parent


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
