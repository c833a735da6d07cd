"""Who an event is: the ``external_id`` under which Polar stores it once and never again.

The promise. An event without an ``external_id`` of its own gets one that is derived from

- the scope: by default the task's run (dag id, task id, run id, map index),
- the event's content in canonical form: the order of keys, how a number is written (``1``, ``1.0``, ``1e0``) and the
  zone or the precision beyond microseconds of its timestamp make no difference; ``true``, ``1`` and ``"1"`` differ,
- which repetition of equal content within the run it is.

So it depends neither on the order of the rows, nor on batches, nor on the attempt. Its limits: content that
changes between two attempts (a timestamp taken while reading, say) is another event, and so is the same content in
another run, unless ``idempotency_scope`` says what the runs have in common.

Of rows with a business key the id is derived from the scope, which is by default the task in all its runs, and from the
key alone: whatever else such a row says, it is the same event.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from airflow_provider_polar.engine.ingesting.places import Place

_PREFIX, _KEY_PREFIX = "airflow-v1-", "airflow-key-v1-"
_ID_BYTES = 20
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
# This one is several times as fast, and for ASCII text and for numbers without an exponent its bytes are the same.
_FAST_CANONICAL = msgspec.json.Encoder(order="deterministic")
_LEAST_WITHOUT_EXPONENT = 1e-4
_KEPT_IN_MEMORY = 1 << 17
_PLACE_BYTES = 8
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


def task_scope(dag_id: str, task_id: str) -> str:
    """The scope of business keys: one task, in all its runs."""
    return json.dumps(["task", dag_id, task_id])


def id_of_key(scope: str, values: Sequence[str | bool | int | float]) -> str:
    """The ``external_id`` of a business key in a scope."""
    return _KEY_PREFIX + _digest(_scope_hash(scope), _CANONICAL.encode(values).encode(), 0).hex()


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
    """The event's ``external_id`` stands for different content in an earlier row, the first."""

    first: Place


class Identities:
    """Gives every event of one run its identity. Not thread-safe.

    :param scope: from :func:`run_scope`, :func:`named_scope`, or :data:`CONTENT_SCOPE`.
    :param database: the ingest's temporary one. Digests beyond the first hundred thousand are kept there: memory does
        not grow with the number of events.
    """

    def __init__(self, scope: str, database: sqlite3.Connection) -> None:
        self._scope_hash = _scope_hash(scope)
        self._database = database
        self._database.execute("CREATE TABLE parents (id BLOB PRIMARY KEY, parent TEXT) WITHOUT ROWID")
        # Derived: id -> place. Repeated: the id of the first of equal events -> how many more, that of a later
        # one -> that of the first. Explicit: key of the id -> place and digest of the content.
        self._derived = _Table(self._database, "derived")
        self._repeated = _Table(self._database, "repeated")
        self._explicit = _Table(self._database, "explicit")
        self._explicit_like_derived = False

    def identify(self, event: Mapping[str, Any], place: Place) -> str | Conflict | None:
        """The event's ``external_id``; None where the run has this very event under this explicit id already."""
        if parent := event.get("parent_id"):
            self._database.execute("INSERT OR IGNORE INTO parents VALUES (?, ?)", (_key(parent), parent))
        content = canonical(event)
        external_id: str | None = event.get("external_id")
        if external_id is None:
            external_id = _PREFIX + self._derive(content, place).hex()
            if not self._explicit_like_derived:
                return external_id
            known = self._explicit.get(_key(external_id))
            return external_id if known is None else _same_or_conflict(known, content)
        if external_id.startswith(_PREFIX):
            self._explicit_like_derived = True
            derived = _derived_id(external_id)
            if (first := self._derived.get(derived)) is not None:
                earlier = self._repeated.get(derived)
                same = earlier if isinstance(earlier, bytes) else derived
                return None if same == _digest(self._scope_hash, content, 0) else Conflict(first)
        key = _key(external_id)
        if self._explicit.add(key, place.to_bytes(_PLACE_BYTES, "big") + _key_of(content)):
            return external_id
        return _same_or_conflict(self._explicit.get(key), content)

    def _derive(self, content: bytes, place: Place) -> bytes:
        first = _digest(self._scope_hash, content, 0)
        if self._derived.add(first, place):
            return first
        occurrence = (self._repeated.get(first) or 0) + 1
        derived = _digest(self._scope_hash, content, occurrence)
        self._repeated[first] = occurrence
        self._repeated[derived] = first
        self._derived.add(derived, place)
        return derived

    def foreign_parents(self) -> Iterator[str]:
        """Every ``parent_id`` that is no explicit ``external_id`` of this run, each once."""
        for key, parent in self._database.execute("SELECT id, parent FROM parents ORDER BY parent"):
            if self._explicit.get(key) is None:
                yield parent


class _Table:
    """Like a dict of bytes to int or bytes; what comes after the first hundred thousand keys is kept on disk."""

    def __init__(self, database: sqlite3.Connection, name: str) -> None:
        self._memory: dict[bytes, Any] = {}
        self._execute, self._name = database.execute, name
        self._execute(f"CREATE TABLE {name} (key BLOB PRIMARY KEY, value) WITHOUT ROWID")

    def add(self, key: bytes, value: int | bytes) -> bool:
        """Stores a value under a new key; whether the key was new."""
        if key in self._memory:
            return False
        if len(self._memory) < _KEPT_IN_MEMORY:
            self._memory[key] = value
            return True
        return self._execute(f"INSERT OR IGNORE INTO {self._name} VALUES (?, ?)", (key, value)).rowcount > 0  # noqa: S608

    def get(self, key: bytes) -> Any:
        if (value := self._memory.get(key)) is not None or len(self._memory) < _KEPT_IN_MEMORY:
            return value
        row = self._execute(f"SELECT value FROM {self._name} WHERE key = ?", (key,)).fetchone()  # noqa: S608
        return row and row[0]

    def __setitem__(self, key: bytes, value: int | bytes) -> None:
        if not self.add(key, value):
            if key in self._memory:
                self._memory[key] = value
            else:
                self._execute(f"UPDATE {self._name} SET value = ? WHERE key = ?", (value, key))  # noqa: S608


def _same_or_conflict(known: bytes, content: bytes) -> Conflict | None:
    place, digest = known[:_PLACE_BYTES], known[_PLACE_BYTES:]
    return None if digest == _key_of(content) else Conflict(int.from_bytes(place, "big"))


def _derived_id(external_id: str) -> bytes:
    written = external_id.removeprefix(_PREFIX)
    try:
        derived = bytes.fromhex(written)
    except ValueError:
        return b""
    return derived if derived.hex() == written else b""


def _key(text: str) -> bytes:
    return _key_of(text.encode())


def _key_of(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]
