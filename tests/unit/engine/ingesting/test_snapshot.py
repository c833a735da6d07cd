"""Frozen events: one snapshot wins, is taken up as it is, and a damaged one is told."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.identity import task_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest, IngestSummary
from airflow_provider_polar.engine.ingesting.keys import KeyedRows
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.snapshot import Snapshot
from airflow_provider_polar.engine.ingesting.sources import Row, rows_in_memory
from airflow_provider_polar.exceptions import PolarIngestIncompleteError, PolarSourceError
from airflow_provider_polar.testing import LocalPolar

SCOPE = task_scope("dag", "task")


def event(n: int, **fields: Any) -> dict[str, Any]:
    return {"name": "call", "external_customer_id": "c", "metadata": {"n": n}, **fields}


def ingest(polar: LocalPolar, folder: Path, rows: Iterator[Row], **options: Any) -> IngestSummary:
    keep = options.pop("keep", False)
    with PolarClient(polar.token, base_url=polar.base_url) as client:
        snapshot = Snapshot(Directory(UPath(f"file://{folder}")), SCOPE, "run", keep=keep)
        given = IngestOptions(SCOPE, owner="run", batch_size=3, **options)
        return Ingest(lambda: client, given).run(rows, snapshot=snapshot)


def test_of_two_attempts_at_once_one_snapshot_wins_and_both_send_it(polar_server: LocalPolar, tmp_path: Path) -> None:
    """Both have read their rows, which differ, before either freezes them; neither ends before both have begun."""
    both = threading.Barrier(2)
    results: list[IngestSummary] = []
    polar_server.fail("delay", path="ingest", delay=0.05, every=1)

    def attempt(first: int) -> None:
        def rows() -> Iterator[Row]:
            yield from rows_in_memory(event(n) for n in range(first, first + 20))
            both.wait(30)

        # The second one finds the snapshot gone where the first has finished by then.
        with contextlib.suppress(PolarIngestIncompleteError):
            results.append(ingest(polar_server, tmp_path, rows()))

    attempts = [threading.Thread(target=attempt, args=(first,)) for first in (0, 1000)]
    for one in attempts:
        one.start()
    for one in attempts:
        one.join()
    assert polar_server.count() == 20
    assert len({event["metadata"]["n"] // 1000 for event in polar_server.events()}) == 1
    assert 1 <= len(results) <= 2


def test_an_attempt_that_comes_too_late_sends_nothing(polar_server: LocalPolar, tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield from rows_in_memory([event(2)])
        (tmp_path / snapshot_name()).write_bytes(b"another's")

    class Gone(Snapshot):
        def restore(self, *_: Any) -> None:
            return None

    with PolarClient(polar_server.token, base_url=polar_server.base_url) as client:
        snapshot = Gone(Directory(UPath(f"file://{tmp_path}")), SCOPE, "run")
        with pytest.raises(PolarIngestIncompleteError, match=r"Another attempt .*removed"):
            Ingest(lambda: client, IngestOptions(SCOPE, owner="run")).run(rows(), snapshot=snapshot)
    assert polar_server.count() == 0


def snapshot_name() -> str:
    return Snapshot(Directory(UPath("file:///x")), SCOPE, "run").url.rpartition("/")[2]


@pytest.mark.parametrize("skip", [False, True])
def test_parents_and_rejected_rows_are_frozen_too(polar_server: LocalPolar, tmp_path: Path, skip: bool) -> None:
    rows = [event(n) for n in range(5)] + [event(9, external_id="child", parent_id="parent")]
    rows += [event(8, external_id="parent")] + ([{"name": "x", "n": Decimal(1)}] if skip else [])
    options: dict[str, Any] = {"max_concurrency": 1, "on_invalid": "skip" if skip else "fail"}
    polar_server.fail("missing_scope", path="ingest", times=1)
    with pytest.raises(PolarIngestIncompleteError, match=r"are frozen in file://.*/frozen-"):
        ingest(polar_server, tmp_path, rows_in_memory(rows), **options)
    done = ingest(polar_server, tmp_path, iter(()), **options, keep=True)
    assert (done.events, done.inserted, done.rejected) == (len(rows), 7, int(skip))
    assert Counter(one["metadata"]["n"] for one in polar_server.events()) == Counter([0, 1, 2, 3, 4, 8, 9])
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("kept-")


@pytest.mark.parametrize("damage", ["short", "bytes", "fewer", "version"])
def test_a_damaged_snapshot_is_told_and_nothing_is_sent(polar_server: LocalPolar, tmp_path: Path, damage: str) -> None:
    polar_server.fail("missing_scope", path="ingest", times=1)
    with pytest.raises(PolarIngestIncompleteError):
        ingest(polar_server, tmp_path, rows_in_memory([event(n) for n in range(9)]), max_concurrency=1)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    lines = gzip.decompress(whole).splitlines(keepends=True)
    broken = {
        "short": whole[:-20],
        "bytes": whole[:40] + b"\xff" + whole[41:],
        "fewer": gzip.compress(b"".join(lines[:-1])),
        "version": gzip.compress(b"".join([lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]])),
    }
    path.write_bytes(broken[damage])
    with pytest.raises(PolarSourceError, match=r"frozen-.* cannot be read: .*remove the file"):
        ingest(polar_server, tmp_path, iter(()))
    assert polar_server.count() == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, Decimal("1.00"), True),
        (1, 1.0, True),
        (1, "1", False),
        (1, True, False),
        ("a", "A", False),
        (0.5, Decimal("0.50"), True),
    ],
)
def test_a_key_is_its_value_whichever_driver_gives_it(one: Any, other: Any, same: bool) -> None:
    keyed = KeyedRows(["id", "part"], SCOPE, None)
    ids = [keyed({"id": value, "part": "x", "name": "call"})[0]["external_id"] for value in (one, other)]
    assert (ids[0] == ids[1]) == same
    assert ids[0] != keyed({"id": "x", "part": one})[0]["external_id"]
