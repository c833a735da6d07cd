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
from typing import Any

import msgspec

_PREFIX = "airflow-v1-"
_ID_BYTES = 20
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
# This one is several times as fast, and for ASCII text and for numbers without an exponent its bytes are the same.
_FAST_CANONICAL = msgspec.json.Encoder(order="deterministic")
_LEAST_WITHOUT_EXPONENT = 1e-4
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
    content = dict(event)
    content.pop("external_id", None)
    has_exponent = False
    if metadata := content.get("metadata"):
        content["metadata"] = canonical_metadata = {}
        for key, value in metadata.items():
            if type(value) is float:
                if value.is_integer():
                    value = int(value)
                elif abs(value) < _LEAST_WITHOUT_EXPONENT:
                    has_exponent = True
            canonical_metadata[key] = value
        if cost := metadata.get("_cost"):
            amount = format(Decimal(str(cost["amount"])).normalize() + 0, "f")
            canonical_metadata["_cost"] = {**cost, "amount": amount}
    if not has_exponent:
        encoded = _FAST_CANONICAL.encode(content)
        if encoded.isascii() and b"\x7f" not in encoded:
            return encoded
    return _CANONICAL.encode(content).encode()


def derive(scope: str, content: bytes, occurrence: int) -> str:
    """The derived ``external_id`` of the n-th event (from 0) with this content in this scope."""
    return _PREFIX + _digest(_scope_hash(scope), content, occurrence).hex()


def _scope_hash(scope: str) -> Any:
    encoded = scope.encode()
    return hashlib.sha256(len(encoded).to_bytes(8, "big") + encoded)


def _digest(scope_hash: Any, content: bytes, occurrence: int) -> bytes:
    digest = scope_hash.copy()
    number = b"%d" % occurrence
    digest.update(len(content).to_bytes(8, "big") + content + len(number).to_bytes(8, "big") + number)
    return digest.digest()[:_ID_BYTES]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Conflict:
    """The event's ``external_id`` stands for different content in an earlier row.

    :param first: (source number, row number) of that row.
    """

    first: tuple[int, int]


class Identities:
    """Gives every event of one run its identity, and keeps which was seen with which content. Not thread-safe.

    :param scope: from :func:`run_scope`, :func:`named_scope`, or :data:`CONTENT_SCOPE`.
    :param database: where to keep that; memory does not grow with the number of events.
    """

    def __init__(self, scope: str, database: sqlite3.Connection) -> None:
        self._scope_hash = _scope_hash(scope)
        self._execute = database.execute
        self._execute("CREATE TABLE parents (key BLOB PRIMARY KEY, parent TEXT) WITHOUT ROWID")
        # derived counts the events without an id of their own whose content has the digest that is the key.
        self._execute(
            "CREATE TABLE identities (key BLOB PRIMARY KEY, content BLOB, source INTEGER, number INTEGER, "
            "is_explicit INTEGER, derived INTEGER) WITHOUT ROWID"
        )

    def identify(self, event: Mapping[str, Any], place: tuple[int, int]) -> str | Conflict | None:
        """The event's ``external_id``; None where the run has this very event under this explicit id already.

        :param place: (source number, row number), for conflicts.
        """
        if parent := event.get("parent_id"):
            self._execute("INSERT OR IGNORE INTO parents VALUES (?, ?)", (_key(parent), parent))
        content = canonical(event)
        digest = key = _digest(self._scope_hash, content, 0)
        external_id: str | None = event.get("external_id")
        is_explicit = external_id is not None
        if external_id is not None:
            key = _key(external_id)
        is_new = self._add(key, digest, place, is_explicit)
        if not is_explicit:
            if not is_new:
                (occurrence,) = self._execute(
                    "UPDATE identities SET derived = derived + 1 WHERE key = ? RETURNING derived - 1", (digest,)
                ).fetchone()
                if occurrence:
                    key = _digest(self._scope_hash, content, occurrence)
                    is_new = self._add(key, digest, place, is_explicit)
            external_id = _PREFIX + key.hex()
        return external_id if is_new else self._same_or_conflict(key, digest)

    def _add(self, key: bytes, digest: bytes, place: tuple[int, int], is_explicit: bool) -> bool:
        """Keeps an identity that is new; whether it is."""
        added = self._execute(
            "INSERT OR IGNORE INTO identities VALUES (?, ?, ?, ?, ?, ?)",
            (key, digest, *place, is_explicit, not is_explicit),
        )
        return added.rowcount > 0

    def _same_or_conflict(self, key: bytes, digest: bytes) -> Conflict | None:
        known, source, number = self._execute(
            "SELECT content, source, number FROM identities WHERE key = ?", (key,)
        ).fetchone()
        return None if known == digest else Conflict((source, number))

    def foreign_parents(self) -> Iterator[str]:
        """Every ``parent_id`` that is no explicit ``external_id`` of this run, each once."""
        for (parent,) in self._execute(
            "SELECT parent FROM parents LEFT JOIN identities USING (key) WHERE is_explicit IS NOT TRUE ORDER BY parent"
        ):
            yield parent


def _key(external_id: str) -> bytes:
    """What an id is kept under: a derived one under its digest, another one under one that is shorter."""
    written = external_id.removeprefix(_PREFIX)
    if written != external_id and len(written) == 2 * _ID_BYTES:
        try:
            if (derived := bytes.fromhex(written)).hex() == written:
                return derived
        except ValueError:
            pass
    return hashlib.sha256(external_id.encode()).digest()[:16]
