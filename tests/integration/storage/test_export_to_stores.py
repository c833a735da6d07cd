"""Exports to real stores: the same objects everywhere, nothing half, nothing left behind, whoever is killed when."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.exceptions import PolarDestinationError
from airflow_provider_polar.testing import LocalPolar
from tests.integration.storage.stores import S3, Disk, Store
from tests.unit.engine.rows import HOUR, MemoryReader, event, minutes, named_by

START = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "events_20260101T000000Z_20260101T010000Z"
EVENTS = 3000
MOMENTS = ["asked", "uploaded", "asked", "uploaded", "uploaded", "published"]


def directory(store: Store) -> Directory:
    return Directory(UPath(store.url, **store.options))


def export(store: Store, reader: MemoryReader, **layout: Any) -> None:
    WindowExport(reader, directory(store), HOUR, EventFilters(), FileLayout(**layout)).run()


def unnamed(objects: dict[str, bytes]) -> set[str]:
    """Objects that no manifest names. (A disk can keep a temporary file; the next export removes it.)"""
    objects = {name: content for name, content in objects.items() if not name.endswith(".tmp")}
    records = {name: json.loads(content) for name, content in objects.items() if name.endswith(".json")}
    named = set(records)
    for name, record in records.items():
        folder = name.rpartition("/")[0]
        named |= {f"{folder}/{path}".lstrip("/") for path in named_by(record)} | set(record.get("published", ()))
    return set(objects) - named


def exported(objects: dict[str, bytes]) -> list[str]:
    """The ids that the window's manifest holds, its files being what it says."""
    manifest = json.loads(objects[f"{NAME}.manifest.json"])
    ids = []
    for file in manifest["files"]:
        content = objects[file["path"]]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
        ids += [json.loads(line)["id"] for line in content.splitlines()]
    assert len(objects) == 1 + len(manifest["files"])
    return ids


def test_the_same_objects_in_every_store(store: Store, tmp_path: Path) -> None:
    export(store, MemoryReader(minutes(60)))
    here = Disk(f"file://{tmp_path}/here")
    export(here, MemoryReader(minutes(60)))
    assert store.objects() == here.objects()
    assert len(here.objects()) == 4
    export(store, MemoryReader(minutes(60)))
    assert store.objects() == here.objects()
    assert store.unfinished() == []


def test_a_later_export_of_the_window_supersedes_it(store: Store) -> None:
    export(store, MemoryReader(minutes(60), pieces=4))
    events = [*minutes(60), event(START + timedelta(seconds=1), 99)]
    export(store, MemoryReader(events, pieces=2))
    assert sorted(exported(store.objects())) == sorted(e["id"] for e in events)


def test_a_failure_while_reading_leaves_nothing_unnamed(store: Store) -> None:
    def fail(window: EventWindow) -> None:
        if window.end == HOUR.end:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        export(store, MemoryReader(minutes(60), before_read=fail))
    assert unnamed(store.objects()) == set()
    assert f"{NAME}.manifest.json" not in store.objects()
    export(store, MemoryReader(minutes(60)))
    assert exported(store.objects()) == [e["id"] for e in minutes(60)]


UPLOAD = """
import json, sys
from upath import UPath
from airflow_provider_polar.engine.files.storage import Directory
job = json.loads(sys.argv[1])
directory = Directory(UPath(job["url"], **job["options"]))
directory.names("")
print("uploading", flush=True)
directory.upload(job["local"], "large")
"""


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.2])
def test_a_killed_upload_is_whole_or_not_there(store: Store, tmp_path: Path, seconds: float) -> None:
    """Of a file larger than stores take in one request. (A disk can keep a temporary file.)"""
    if isinstance(store, Disk):
        pytest.skip("a disk may keep the temporary file of an upload, which the next export removes")
    local = tmp_path / "large"
    local.write_bytes(bytes(150_000_000))
    job = json.dumps({"url": store.url, "options": store.options, "local": str(local)})
    with subprocess.Popen([sys.executable, "-c", UPLOAD, job], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
    assert [len(content) for content in store.objects().values()] in ([], [150_000_000])


def test_a_bucket_that_does_not_exist_is_a_clear_error(s3_options: dict[str, Any]) -> None:
    store = S3("s3://nowhere/usage", s3_options)
    reader = MemoryReader(minutes(60))
    reader.plan = None  # type: ignore[assignment]
    with pytest.raises(PolarDestinationError, match="s3://nowhere/usage"):
        export(store, reader)


@pytest.fixture
def polar() -> Iterator[LocalPolar]:
    with LocalPolar() as polar:
        polar.add_events(
            {
                "name": "call",
                "timestamp": START + timedelta(microseconds=1_200_000 * i + i % 7),
                "external_customer_id": f"c{i % 9}",
            }
            for i in range(EVENTS)
        )
        yield polar


def test_killed_at_random_moments_and_retried(store: Store, polar: LocalPolar) -> None:
    job = {
        "url": store.url,
        "options": store.options,
        "window": HOUR.to_dict(),
        "base_url": polar.base_url,
        "token": polar.token,
        "target_rows": 300,
    }
    chance = random.Random(store.url[:2])
    requests = []
    for moment in [*MOMENTS, None]:
        polar.clear_requests()
        until = ready(store, polar, moment, chance)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.storage.export_process", json.dumps(job)], stdout=subprocess.PIPE
        )
        if moment:
            while process.poll() is None and not until():
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.returncode == -signal.SIGKILL
            assert unnamed(store.objects()) == set()
        else:
            out, _ = process.communicate()
            assert process.returncode == 0
            assert int(out) == len(polar.requests)
        requests.append(len(polar.requests))
    truth = sorted(polar.events(), key=lambda e: (datetime.fromisoformat(e["timestamp"]), e["id"]))
    objects = store.objects()
    assert exported(objects) == [e["id"] for e in truth]
    assert unnamed(objects) == set()
    # 10 slices of 3 to 4 pages, the plan and the final counts; beyond that, at most what was in flight at each kill.
    assert sum(requests) <= 60 + len(MOMENTS) * 20, requests


def ready(store: Store, polar: LocalPolar, moment: str | None, chance: random.Random) -> Callable[[], bool]:
    """Whether to kill now: after some answer of Polar's, or as soon as another file is in the store, or has its
    final name."""
    before = len(store.names())
    number = chance.randint(3, 12)
    conditions = {
        "asked": lambda: len(polar.requests) >= number,
        "uploaded": lambda: sum(name.endswith(".jsonl") for name in store.names()) > before,
        "published": lambda: any(name.startswith(f"{NAME}.part") for name in store.names()),
    }
    return conditions.get(moment or "", lambda: False)


def test_killed_at_72_percent_and_resumed_costs_next_to_nothing(polar: LocalPolar, tmp_path: Path) -> None:
    """All slices end near the end, and a kill before that lost everything: 306 requests for 300 pages again."""
    more = (
        {"name": "call", "timestamp": START + timedelta(microseconds=300_000 * i), "external_customer_id": "d"}
        for i in range(12_000 - EVENTS)
    )
    polar.add_events(more)
    whole, store = Disk(f"file://{tmp_path}/whole"), Disk(f"file://{tmp_path}/killed")
    job = {"options": {}, "window": HOUR.to_dict(), "base_url": polar.base_url, "token": polar.token}
    job |= {"target_rows": 6_000, "requests_per_minute": 60_000}
    command = [sys.executable, "-m", "tests.integration.storage.export_process"]
    subprocess.run([*command, json.dumps(job | {"url": whole.url})], check=True, stdout=subprocess.DEVNULL)
    full = 12_000 // 100
    polar.clear_requests()
    polar.on_request(lambda _: time.sleep(0.02))
    with subprocess.Popen([*command, json.dumps(job | {"url": store.url})], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and len(polar.requests) < 0.72 * full:
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert unnamed(store.objects()) == set()
    subprocess.run([*command, json.dumps(job | {"url": store.url})], check=True, stdout=subprocess.DEVNULL)
    assert len(polar.requests) <= 1.05 * full + 2 * 21, len(polar.requests)
    assert store.objects() == whole.objects()


@pytest.mark.parametrize("number", [3, 7, 9, 12, 14, 17])
def test_a_look_back_killed_for_good_at_each_stage_of_publication(
    s3_options: dict[str, Any], tmp_path: Path, number: int
) -> None:
    """On an object store, by a signal that no process survives; every death point is in the test of exports."""
    store = S3(f"s3://events/deaths/{uuid.uuid4().hex}", s3_options)
    with LocalPolar() as polar:
        polar.add_events(
            {"name": "call", "timestamp": START + timedelta(seconds=6 * i), "external_customer_id": "c"}
            for i in range(600)
        )
        job = {"url": store.url, "options": store.options, "window": HOUR.to_dict(), "base_url": polar.base_url}
        job |= {"token": polar.token, "target_rows": 300, "requests_per_minute": 60_000}
        command = [sys.executable, "-m", "tests.integration.storage.export_process"]
        subprocess.run([*command, json.dumps(job)], check=True, stdout=subprocess.DEVNULL)
        polar.add_events([{"name": "late", "timestamp": START + timedelta(seconds=1), "external_customer_id": "c"}])
        killed = subprocess.run([*command, json.dumps(job | {"die_at": number})], check=False)
        objects = store.objects()
        manifest = json.loads(objects[f"{NAME}.manifest.json"])
        for file in manifest["files"]:
            assert hashlib.sha256(objects[file["path"]]).hexdigest() == file["sha256"]
        assert manifest["rows"] in (600, 601)
        subprocess.run([*command, json.dumps(job)], check=True, stdout=subprocess.DEVNULL)
        assert len(exported(store.objects())) == 601
        assert killed.returncode in (-signal.SIGKILL, 0)
