"""Sources and rejected rows in every store."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.files.formats import FORMATS, format_of
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.identity import run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.snapshot import Snapshot
from airflow_provider_polar.engine.ingesting.sources import matching, rows_in_memory, rows_of_files
from airflow_provider_polar.exceptions import PolarIngestIncompleteError, PolarSourceError
from airflow_provider_polar.testing import LocalPolar
from tests.integration.storage.stores import Store

EVENT = {"name": "call.made", "external_customer_id": "c1", "timestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
def client(polar_server: LocalPolar) -> Iterator[PolarClient]:
    with PolarClient(polar_server.token, base_url=polar_server.base_url) as polar:
        yield polar


def test_a_glob_in_and_rejected_rows_out(store: Store, polar_server: LocalPolar, client: PolarClient) -> None:
    folder = UPath(store.url, **store.options)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        lines = [json.dumps({**EVENT, "metadata": {"n": number * 1000 + n}}) for n in range(1000)]
        with (folder / f"{number}.jsonl.gz").open("wb") as file:
            file.write(gzip.compress("\n".join([*lines, "{}", ""]).encode()))
    names = matching(folder / "*.jsonl.gz")
    assert [format_of(name) for name in names] == [FORMATS["jsonl"]] * 3
    paths = [UPath(name, **store.options) for name in names]
    options = IngestOptions(run_scope("d", "t", "r", -1), on_invalid="skip")
    for attempt in range(2):
        ingest = Ingest(lambda: client, options, rejected=folder / "bad" / "rejected.jsonl")
        summary = ingest.run(rows_of_files(paths), sources=names)
        assert (summary.events, summary.inserted, summary.rejected) == (3003, 0 if attempt else 3000, 3)
        with (folder / "bad" / "rejected.jsonl").open("rb") as file:
            rejected = [json.loads(line) for line in file]
        assert [(line["source"], line["row"]) for line in rejected] == [(name, 1001) for name in names]
        assert [name for name in store.names() if name.startswith("bad/")] == ["bad/rejected.jsonl"]
    assert polar_server.count() == 3000


def test_of_many_that_create_an_object_at_once_one_does(store: Store, tmp_path: Path) -> None:
    directory = Directory(UPath(store.url, **store.options))
    for number in range(8):
        (tmp_path / f"{number}").write_bytes(b"%d" % number * 1000)

    def create(number: int) -> bool:
        return directory.create(str(tmp_path / f"{number}"), "frozen")

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert created.count(True) == 1
    assert not create(0)
    assert store.objects() == {"frozen": b"%d" % created.index(True) * 1000}
    assert directory.download("frozen", str(tmp_path / "read"))
    assert (tmp_path / "read").read_bytes() == store.objects()["frozen"]
    assert not directory.download("none", str(tmp_path / "read"))


def test_what_is_frozen_is_sent_by_the_next_attempt(
    store: Store, polar_server: LocalPolar, client: PolarClient
) -> None:
    scope = run_scope("d", "t", "r", -1)
    polar_server.fail("missing_scope", path="ingest", times=1)
    for attempt in range(3):
        rows = rows_in_memory({**EVENT, "metadata": {"n": attempt * 1000 + n}} for n in range(attempt, 20))
        snapshot = Snapshot(Directory(UPath(store.url, **store.options)), scope, "r", keep=attempt == 2)
        ingest = Ingest(lambda: client, IngestOptions(scope, owner="r"))
        if attempt:
            assert ingest.run(rows, snapshot=snapshot).inserted == 20 - 2 * (attempt == 2)
        else:
            with pytest.raises(PolarIngestIncompleteError):
                ingest.run(rows, snapshot=snapshot)
        assert len(store.names()) == (attempt != 1)
    numbers = sorted(event["metadata"]["n"] for event in polar_server.events())
    assert numbers == [*range(20), *range(2002, 2020)]
    kept = [(path.rpartition("/")[2], len(list(events))) for path, events in snapshot.kept()]
    assert kept == [(store.names()[0], 18)]


def test_a_glob_without_a_file_and_a_file_that_is_not_there(store: Store) -> None:
    folder = UPath(store.url, **store.options)
    with pytest.raises(PolarSourceError, match="no file matches"):
        matching(folder / "*.jsonl")
    with pytest.raises(PolarSourceError, match="cannot be read") as caught:
        list(rows_of_files([folder / "none.jsonl"]))
    assert not caught.value.retryable
