"""The ingest engine against the local Polar: each event once, whatever happens on the way."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.limits import MAX_BODY_BYTES
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.ingesting.identity import CONTENT_SCOPE, run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest, IngestOptions, IngestSummary
from airflow_provider_polar.engine.ingesting.mapping import EventMapping
from airflow_provider_polar.engine.ingesting.sources import rows_in_memory, rows_of_files
from airflow_provider_polar.exceptions import (
    PolarAuthenticationError,
    PolarDestinationError,
    PolarIdentityConflictError,
    PolarIngestIncompleteError,
    PolarInvalidEventsError,
    PolarSourceError,
)
from airflow_provider_polar.testing import LocalPolar

RUN = run_scope("dag", "task", "run", -1)
START = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = {"name": "call.made", "external_customer_id": "c1", "timestamp": "2026-01-01T00:00:00Z"}


@pytest.fixture
def client(polar_server: LocalPolar) -> Iterator[PolarClient]:
    with PolarClient(polar_server.token, base_url=polar_server.base_url, retries=Retries(6, 0.01, 0.05)) as polar:
        yield polar


def usage(number: int) -> list[dict[str, Any]]:
    return [
        {
            "name": "call.made",
            "external_customer_id": f"customer_{n % 7}",
            "timestamp": START + timedelta(seconds=n // 3),
            "metadata": {"tokens": n // 2, "ratio": n / 8},
        }
        for n in range(number)
    ]


class Memory:
    """A progress that outlives attempts."""

    def __init__(self) -> None:
        self.state: Any = None

    def load(self) -> Any:
        return self.state

    def save(self, state: dict[str, Any]) -> None:
        self.state = json.loads(json.dumps(state))

    def clear(self) -> None:
        self.state = None


def ingest(client: PolarClient, events: Any, scope: str = RUN, **options: Any) -> IngestSummary:
    known = {key: options.pop(key) for key in ("rejected", "progress", "log") if key in options}
    return Ingest(lambda: client, IngestOptions(scope, **options), **known).run(rows_in_memory(events))


def ingest_requests(polar: LocalPolar) -> list[Any]:
    return [record for record in polar.requests if record.path == "/v1/events/ingest"]


# Billed once


def test_every_third_answer_lost(polar_server: LocalPolar, client: PolarClient) -> None:
    polar_server.fail("lost_response", path="ingest", every=3)
    summary = ingest(client, usage(10_000), batch_size=200)
    assert summary.inserted + summary.duplicates == summary.events == 10_000
    assert polar_server.count() == 10_000
    assert len(ingest_requests(polar_server)) > 60


def test_a_batch_with_bad_luck_has_another_turn_while_others_get_through(polar_server: LocalPolar) -> None:
    polar_server.fail("lost_response", path="ingest", every=3)
    with PolarClient(polar_server.token, base_url=polar_server.base_url, retries=Retries(1)) as hasty:
        summary = ingest(hasty, usage(90), batch_size=10, max_concurrency=1)
    assert summary.inserted + summary.duplicates == 90
    assert polar_server.count() == 90


def test_an_outage_ends_the_run(polar_server: LocalPolar, client: PolarClient) -> None:
    polar_server.fail("status", status=503, path="ingest", after=2)
    with pytest.raises(PolarIngestIncompleteError, match="Of 1,000 events, "):
        ingest(client, usage(1000), batch_size=10)
    assert len(ingest_requests(polar_server)) < 60


def test_duplicates_that_are_a_lost_responses_work_are_told_as_such(
    polar_server: LocalPolar, client: PolarClient, caplog: pytest.LogCaptureFixture
) -> None:
    polar_server.fail("lost_response", path="ingest", times=1)
    with caplog.at_level(logging.INFO):
        assert ingest(client, usage(10)) == IngestSummary(10, 0, 10, 0, 1, None)
    assert "Up to 10 of the duplicates are events that this run has stored itself" in caplog.text
    assert "nothing was billed again" not in caplog.text


@pytest.mark.parametrize("kind", ["reset", "truncated", "broken", "status"])
def test_other_faults_on_the_way(polar_server: LocalPolar, client: PolarClient, kind: str) -> None:
    polar_server.fail(kind, path="ingest", every=3)  # type: ignore[arg-type]
    assert ingest(client, usage(1000), batch_size=50).events == 1000
    assert polar_server.count() == 1000


def test_a_run_again_with_its_rows_shuffled_inserts_nothing(
    polar_server: LocalPolar, client: PolarClient, caplog: pytest.LogCaptureFixture
) -> None:
    rows = usage(3000)
    ingest(client, rows)
    random.Random(7).shuffle(rows)
    with caplog.at_level(logging.INFO):
        summary = ingest(client, rows, batch_size=123)
    assert summary == IngestSummary(3000, 0, 3000, 0, 25, None)
    assert polar_server.count() == 3000
    assert "All 3,000 events were stored already; nothing was billed again." in caplog.text


def test_two_runs_with_equal_content_are_both_billed(polar_server: LocalPolar, client: PolarClient) -> None:
    ingest(client, usage(100))
    assert ingest(client, usage(100), run_scope("dag", "task", "run2", -1)).inserted == 100
    assert polar_server.count() == 200


def test_without_a_scope_content_alone_decides(polar_server: LocalPolar, client: PolarClient) -> None:
    ingest(client, usage(100), CONTENT_SCOPE)
    assert ingest(client, usage(101), CONTENT_SCOPE).inserted == 1
    assert polar_server.count() == 101


def test_equal_rows_of_one_run_are_all_stored(polar_server: LocalPolar, client: PolarClient) -> None:
    assert ingest(client, [EVENT] * 5, batch_size=2).inserted == 5
    assert polar_server.count() == 5


def test_an_explicit_id_counts_once_across_runs_and_within_one(polar_server: LocalPolar, client: PolarClient) -> None:
    row = {**EVENT, "external_id": "mine"}
    assert ingest(client, [row, row]) == IngestSummary(2, 1, 1, 0, 1, None)
    assert ingest(client, [row], run_scope("other", "task", "run", -1)).duplicates == 1
    assert [event["external_id"] for event in polar_server.events()] == ["mine"]


def test_different_content_under_one_explicit_id_stops_the_run(polar_server: LocalPolar, client: PolarClient) -> None:
    rows = [{**EVENT, "external_id": "mine"}, EVENT, {**EVENT, "external_id": "mine", "name": "other"}]
    with pytest.raises(PolarIdentityConflictError, match=r"row 3, external_id: is that of different content in row 1"):
        ingest(client, rows, on_invalid="skip")
    assert polar_server.requests == []


def test_killed_again_and_again(polar_server: LocalPolar, tmp_path: Path) -> None:
    """SIGKILL at ten random moments, the rows in another order each time."""
    rows = [{**row, "timestamp": row["timestamp"].isoformat()} for row in usage(10_000)]
    file = tmp_path / "usage.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    worker = Path(__file__).with_name("ingest_worker.py")
    chance = random.Random(4)
    polar_server.fail("delay", path="ingest", delay=0.03, every=1)

    def start(attempt: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(worker), polar_server.base_url, polar_server.token, str(file), str(attempt)]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    killed = 0
    for attempt in range(10):
        before = len(ingest_requests(polar_server))
        process = start(attempt)
        while len(ingest_requests(polar_server)) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()  # type: ignore[union-attr]
    assert killed == 10
    assert 0 < polar_server.count() <= 10_000
    polar_server.clear_faults()
    last = start(99)
    output, _ = last.communicate(timeout=60)
    assert last.returncode == 0
    assert b"events=10000" in output
    stored = Counter(
        (e["timestamp"], e["external_customer_id"], e["metadata"]["tokens"]) for e in polar_server.events()
    )
    due = Counter(
        (row["timestamp"].replace("+00:00", "Z"), row["external_customer_id"], row["metadata"]["tokens"])
        for row in rows
    )
    assert stored == due


def test_a_budget_used_up_is_waited_for(client: PolarClient, polar_server: LocalPolar) -> None:
    polar_server.fail("rate_limit", path="ingest", times=2, retry_after=0)
    assert ingest(client, usage(300), batch_size=100).inserted == 300


# Progress


def test_a_retry_sends_what_is_left_and_counts_all(polar_server: LocalPolar, client: PolarClient) -> None:
    memory = Memory()
    polar_server.fail("status", status=503, path="ingest", after=3)
    with pytest.raises(PolarIngestIncompleteError) as caught:
        ingest(client, usage(1000), batch_size=100, max_concurrency=1, progress=memory)
    told = str(caught.value)
    assert "Of 1,000 events, 700 are not known to be stored" in told
    assert "200 events sent without a response, so perhaps stored (rows 301-500)" in told
    assert "500 events not sent by this attempt (rows 501-1,000)." in told
    assert "A retry is safe" in told
    assert caught.value.retryable
    polar_server.clear_faults()
    polar_server.clear_requests()
    summary = ingest(client, usage(1000), batch_size=100, progress=memory)
    assert (summary.inserted, summary.duplicates) == (1000, 0)
    assert len(ingest_requests(polar_server)) == 7
    assert memory.state is None


def test_a_retry_sets_aside_again_what_polar_refused_before(
    polar_server: LocalPolar, client: PolarClient, tmp_path: Path
) -> None:
    memory, rejected = Memory(), UPath(f"file://{tmp_path}/rejected.jsonl")
    rows = [{"name": "x", "customer_id": str(uuid4())}, *usage(29)]
    options: dict[str, Any] = {"on_invalid": "skip", "rejected": rejected, "progress": memory, "batch_size": 10}
    # The first batch is refused, sent again without its first row, and stored; so is the second, but not the third.
    polar_server.fail("status", status=403, path="ingest", after=3, times=1)
    with pytest.raises(PolarIngestIncompleteError, match="30 events") as caught:
        ingest(client, rows, max_concurrency=1, **options)
    assert "Of 30 events, 11 are not known to be stored; 1 event refused (row 1); 10 events" in str(caught.value)
    assert "request having been refused (rows 21-30)." in str(caught.value)
    assert str(caught.value).endswith(f"1 rejected row with all reasons: {rejected}")
    assert json.loads(rejected.read_text())["row"] == 1
    assert memory.state["batches"] == "1"
    assert ingest(client, rows, **options).rejected == 1
    (line,) = rejected.read_text().splitlines()
    assert json.loads(line)["problems"] == [{"field": "customer_id", "message": "Customer not found"}]
    assert polar_server.count() == 29


@pytest.mark.parametrize("change", ["rows", "batches", "account", "garbage"])
def test_progress_of_anything_else_is_not_believed(polar_server: LocalPolar, client: PolarClient, change: str) -> None:
    memory = Memory()
    polar_server.fail("status", status=403, path="ingest", after=1, times=1)
    with pytest.raises(PolarIngestIncompleteError):
        ingest(client, usage(300), batch_size=100, max_concurrency=1, progress=memory)
    assert memory.state["batches"] == "0"
    rows, size = usage(300), 100
    if change == "rows":
        rows[0]["metadata"]["tokens"] = 99
    elif change == "batches":
        size = 99
    elif change == "garbage":
        memory.state = ["?"]
    else:
        polar_server.add_token("polar_oat_other")
        client = PolarClient("polar_oat_other", base_url=polar_server.base_url)
    polar_server.clear_requests()
    ingest(client, rows, batch_size=size, progress=memory)
    assert sum(record.events for record in ingest_requests(polar_server)) == 300
    assert polar_server.count() == (301 if change == "rows" else 300)


def test_nothing_stored_and_no_right_to_is_told_as_such(polar_server: LocalPolar) -> None:
    with (
        PolarClient("polar_oat_wrong", base_url=polar_server.base_url) as wrong,
        pytest.raises(PolarIngestIncompleteError, match="refused the access token") as caught,
    ):
        ingest(wrong, [EVENT])
    assert "polar_oat_wrong" not in str(caught.value)
    assert isinstance(caught.value.__cause__, PolarAuthenticationError)
    assert not caught.value.retryable
    assert "Of 1 event, 1 is not known to be stored; 1 event not stored, their whole request" in str(caught.value)


# Invalid rows

KINDS: list[dict[str, Any]] = [
    {"external_customer_id": "c"},
    {"name": "x" * 129, "external_customer_id": "c"},
    {"name": "no customer"},
    {"name": "both", "external_customer_id": "c", "customer_id": str(uuid4())},
    {"name": "not a uuid", "customer_id": "c"},
    {"name": "naive", "external_customer_id": "c", "timestamp": "2026-01-01T00:00:00"},
    {"name": "future", "external_customer_id": "c", "timestamp": "2099-01-01T00:00:00Z"},
    {"name": "old", "external_customer_id": "c", "timestamp": "1969-01-01T00:00:00Z"},
    {"name": "organization", "external_customer_id": "c", "organization_id": str(uuid4())},
    {"name": "unknown field", "external_customer_id": "c", "metdata": {}},
    {"name": "null", "external_customer_id": "c", "metadata": {"a": None}},
    {"name": "nested", "external_customer_id": "c", "metadata": {"a": {"b": 1}}},
    {"name": "list", "external_customer_id": "c", "metadata": {"a": [1]}},
    {"name": "empty", "external_customer_id": "c", "metadata": {"a": ""}},
    {"name": "long", "external_customer_id": "c", "metadata": {"a": "x" * 501}},
    {"name": "nan", "external_customer_id": "c", "metadata": {"a": float("nan")}},
    {"name": "key", "external_customer_id": "c", "metadata": {"k" * 41: 1}},
    {"name": "keys", "external_customer_id": "c", "metadata": {f"k{n}": n for n in range(51)}},
    {"name": "cost", "external_customer_id": "c", "metadata": {"_cost": {"amount": 1, "currency": "eur"}}},
    {"name": "llm", "external_customer_id": "c", "metadata": {"_llm": {"vendor": "v"}}},
    {"name": "parent", "external_customer_id": "c", "parent_id": "nowhere"},
]
SERVER_KINDS: list[dict[str, Any]] = [
    {"name": "unknown customer", "customer_id": str(uuid4())},
    {"name": "unknown parent", "external_customer_id": "c", "parent_id": str(uuid4())},
]


def test_a_refused_run_is_told_in_whole_sentences(client: PolarClient) -> None:
    with pytest.raises(PolarInvalidEventsError) as invalid:
        ingest(client, [EVENT, {"name": "x"}])
    assert str(invalid.value) == (
        "1 of 2 rows is invalid; nothing has been sent. The first problems: row 2: has no customer: give customer_id "
        "or external_customer_id. Fix them, or set them aside with on_invalid='skip'"
    )
    with pytest.raises(PolarIdentityConflictError) as conflict:
        ingest(client, [{**EVENT, "external_id": "mine"}, {**EVENT, "external_id": "mine", "name": "other"}])
    assert str(conflict.value) == (
        "1 row carries the external_id of another row with different content, and Polar would keep the first and "
        "silently drop the other: row 2, external_id: is that of different content in row 1. Nothing has been sent. "
        "Give them different ids"
    )


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_polar.engine.ingesting.parents._VISIBLE_WITHIN", (0.05,))


@pytest.fixture
def every_kind(tmp_path: Path) -> Path:
    """Good and bad rows in turn, and a line that is no JSON."""
    file = tmp_path / "rows.jsonl"
    lines = []
    for number, bad in enumerate([*KINDS, *SERVER_KINDS]):
        lines += [json.dumps({**EVENT, "metadata": {"n": number}}), json.dumps(bad)]
    file.write_text("\n".join([*lines, '{"name": "cut', ""]))
    return file


def test_fail_sends_not_one_request(polar_server: LocalPolar, client: PolarClient, every_kind: Path) -> None:
    run = Ingest(lambda: client, IngestOptions(RUN))
    with pytest.raises(PolarInvalidEventsError) as caught:
        run.run(rows_of_files([every_kind]), sources=[str(every_kind)])
    assert polar_server.requests == []
    assert str(caught.value).startswith(
        f"{len(KINDS)} of {2 * len(KINDS) + 5} rows are invalid; nothing has been sent."
    )
    assert f"{every_kind}, row 2, name: is missing" in str(caught.value)
    assert len({problem.row for problem in caught.value.problems}) == len(KINDS)


def test_skip_sets_exactly_the_invalid_rows_aside(
    polar_server: LocalPolar, client: PolarClient, every_kind: Path, tmp_path: Path
) -> None:
    rejected = UPath(f"file://{tmp_path}/out/rejected.jsonl")
    for attempt in range(2):
        run = Ingest(lambda: client, IngestOptions(RUN, on_invalid="skip", batch_size=10), rejected=rejected)
        summary = run.run(rows_of_files([every_kind]), sources=[str(every_kind)])
        good, bad = len(KINDS) + len(SERVER_KINDS), len(KINDS) + len(SERVER_KINDS) + 1
        assert (summary.events, summary.rejected) == (good + bad, bad)
        assert (summary.inserted, summary.duplicates) == ((good, 0) if attempt == 0 else (0, good))
        assert summary.rejected_path == str(rejected)
        lines = [json.loads(line) for line in rejected.read_text().splitlines()]
        assert sorted(line["row"] for line in lines) == [*range(2, 2 * good + 1, 2), 2 * good + 1]
        assert all(line["problems"] and line["problems"][0]["message"] for line in lines)
        assert {line["source"] for line in lines} == {str(every_kind)}
        by_row = {line["row"]: line for line in lines}
        for number, row in enumerate(KINDS[:15]):
            assert by_row[2 * number + 2]["event"] == row
        assert by_row[2 * good + 1]["event"] == '{"name": "cut'
    assert sorted(event["metadata"]["n"] for event in polar_server.events()) == list(range(good))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rejected.jsonl"]


def test_no_rejected_row_no_file(client: PolarClient, tmp_path: Path) -> None:
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    assert ingest(client, [EVENT], on_invalid="skip", rejected=rejected).rejected_path is None
    assert not rejected.exists()


def test_a_file_of_rejected_rows_goes_when_the_rows_are_fixed(client: PolarClient, tmp_path: Path) -> None:
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    assert ingest(client, [EVENT, {}], on_invalid="skip", rejected=rejected).rejected_path == str(rejected)
    assert ingest(client, [EVENT], on_invalid="skip", rejected=rejected).rejected_path is None
    assert list(tmp_path.iterdir()) == []


def test_runs_that_share_a_rejected_path_keep_their_rows(client: PolarClient, tmp_path: Path) -> None:
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    other = run_scope("dag", "task", "other", -1)
    options: dict[str, Any] = {"on_invalid": "skip", "rejected": rejected}
    ingest(client, [{"name": "mine"}], **options)
    paths = {ingest(client, [{"name": "theirs"}], other, **options).rejected_path for _ in range(2)}
    assert len(paths) == 1
    (theirs,) = paths
    assert theirs != str(rejected)
    assert json.loads(UPath(theirs).read_text())["event"] == {"name": "theirs"}
    assert json.loads(rejected.read_text())["event"] == {"name": "mine"}
    # The other run's fixed rows take its own file away, and no other.
    ingest(client, [EVENT], other, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["rejected.jsonl"]


def test_a_failed_run_writes_its_invalid_rows_too(
    client: PolarClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    rows: list[Any] = [EVENT, *[{"name": "x"}] * 150, EVENT, {}]
    with pytest.raises(PolarInvalidEventsError) as caught:
        ingest(client, rows, rejected=rejected)
    assert str(caught.value).endswith(f"151 rejected rows with all reasons: {rejected}")
    assert [json.loads(line)["row"] for line in rejected.read_text().splitlines()] == [*range(2, 152), 153]
    assert "Invalid: rows 2-151, 153" in caplog.text
    assert "Rejected for one reason, 151 times: has no customer" in caplog.text


def test_rows_go_out_while_others_are_read_where_invalid_ones_are_skipped(
    polar_server: LocalPolar, client: PolarClient, tmp_path: Path
) -> None:
    def rows(until_sent: bool) -> Iterator[dict[str, Any]]:
        yield from usage(300)
        deadline = time.monotonic() + 30
        while until_sent and len(ingest_requests(polar_server)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        yield {**EVENT, "external_id": "own"}
        yield {}
        sent_early.append(len(ingest_requests(polar_server)))

    sent_early: list[int] = []
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    summary = ingest(client, rows(True), on_invalid="skip", rejected=rejected, batch_size=100)
    assert sent_early[0] >= 2
    assert (summary.inserted, summary.rejected, summary.batches) == (301, 1, 4)
    polar_server.clear_requests()
    with pytest.raises(PolarInvalidEventsError, match="nothing has been sent"):
        ingest(client, rows(False), batch_size=100)
    assert sent_early[1] == 0
    assert polar_server.requests == []


def test_what_was_sent_before_a_source_broke_off_is_told(
    polar_server: LocalPolar, client: PolarClient, tmp_path: Path
) -> None:
    import gzip

    file = tmp_path / "usage.jsonl.gz"
    # The content is random, so that it is long and does break off within.
    lines = [json.dumps({**EVENT, "metadata": {"n": str(uuid4())}}).encode() + b"\n" for _ in range(5000)]
    file.write_bytes(gzip.compress(b"".join(lines))[:-4])
    run = Ingest(lambda: client, IngestOptions(RUN, on_invalid="skip", batch_size=1000))
    with pytest.raises(PolarSourceError, match=r"Before that, [1-4],000 events of other rows were stored"):
        run.run(rows_of_files([file]), sources=[str(file)])


@pytest.mark.parametrize(
    "change",
    [
        {"batches": "?"},
        {"batches": "0-99"},
        {"batches": None},
        {"counts": [1]},
        {"counts": [50, 0, 0]},
        {"counts": ["100", 0, 0]},
        {"counts": None},
    ],
)
def test_malformed_progress_is_ignored_with_a_warning(
    polar_server: LocalPolar, client: PolarClient, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory()
    polar_server.fail("status", status=403, path="ingest", after=1, times=1)
    with pytest.raises(PolarIngestIncompleteError):
        ingest(client, usage(300), batch_size=100, max_concurrency=1, progress=memory)
    memory.state |= change
    assert ingest(client, usage(300), batch_size=100, progress=memory).duplicates == 100
    assert "is not readable and is ignored" in caplog.text


def test_what_only_polar_knows_fails_the_run_and_says_what_is_stored(
    polar_server: LocalPolar, client: PolarClient
) -> None:
    rows = [*usage(4), {"name": "x", "customer_id": str(uuid4())}, *usage(5)]
    with pytest.raises(PolarInvalidEventsError, match=r"row 5, customer_id: Customer not found") as caught:
        ingest(client, rows, batch_size=2, max_concurrency=1)
    told = str(caught.value)
    assert "Of 10 events, 6 are not known to be stored; 1 event refused (row 5); 1 event not stored" in told
    assert "having been refused (row 6); 4 events not sent by this attempt (rows 7-10)." in told
    assert polar_server.count() == 4
    known = polar_server.add_customer(external_id="known")
    rows[4] = {"name": "x", "customer_id": known["id"]}
    summary = ingest(client, rows, batch_size=2)
    assert (summary.inserted, summary.duplicates) == (6, 4)


def test_an_event_ahead_of_polars_clock_waits_for_it(polar_server: LocalPolar, client: PolarClient) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=1.2)
    assert ingest(client, [EVENT, {**EVENT, "timestamp": moment}]).inserted == 2
    assert datetime.now(UTC) >= moment
    assert {record.status for record in ingest_requests(polar_server)} == {422, 200}


def test_rejected_rows_that_cannot_be_written_fail_the_run(client: PolarClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rejected = UPath(f"file://{tmp_path}/file/rejected.jsonl")
    with pytest.raises(PolarDestinationError):
        ingest(client, [{}], on_invalid="skip", rejected=rejected)


# Parents


def test_parents_of_the_run_and_at_polar_are_fine_whatever_the_order(
    polar_server: LocalPolar, client: PolarClient
) -> None:
    (there,) = polar_server.add_events([{**EVENT, "name": "there"}])
    rows = [
        {**EVENT, "name": "child", "parent_id": "p"},
        {**EVENT, "name": "parent", "external_id": "p"},
        {**EVENT, "name": "other child", "parent_id": there},
    ]
    assert ingest(client, rows, batch_size=1).inserted == 3


def test_a_parent_that_becomes_visible_a_moment_later_is_there(client: PolarClient, polar_server: LocalPolar) -> None:
    (late,) = polar_server.add_events([EVENT], visible_after=0.02)
    assert ingest(client, [{**EVENT, "name": "child", "parent_id": late}]).inserted == 1


def test_children_of_rejected_parents_are_rejected_with_them(
    polar_server: LocalPolar, client: PolarClient, tmp_path: Path
) -> None:
    rows = [
        {**EVENT, "name": "grandchild", "parent_id": "c"},
        {**EVENT, "name": "child", "external_id": "c", "parent_id": "p"},
        {**EVENT, "name": "parent", "external_id": "p", "metadata": {"a": None}},
        EVENT,
    ]
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    summary = ingest(client, rows, on_invalid="skip", rejected=rejected)
    assert (summary.inserted, summary.rejected) == (1, 3)
    reasons = {line["event"]["name"]: line["problems"] for line in map(json.loads, rejected.read_text().splitlines())}
    assert "set unknown_parents='accept'" in reasons["child"][0]["message"]
    assert reasons["grandchild"] == [
        {"field": "parent_id", "message": "is an event of this run that is rejected itself"}
    ]


def test_children_of_a_parent_that_polar_refuses_are_not_sent(
    polar_server: LocalPolar, client: PolarClient, tmp_path: Path
) -> None:
    rows = [
        {**EVENT, "name": "grandchild", "parent_id": "c"},
        {**EVENT, "name": "child", "external_id": "c", "parent_id": "p"},
        {"name": "parent", "external_id": "p", "customer_id": str(uuid4())},
        {**EVENT, "name": "other child", "parent_id": "q"},
        {**EVENT, "name": "other parent", "external_id": "q"},
    ]
    rejected = UPath(f"file://{tmp_path}/rejected.jsonl")
    for _attempt in range(2):
        summary = ingest(client, rows, on_invalid="skip", rejected=rejected, batch_size=1)
        assert (summary.inserted + summary.duplicates, summary.rejected) == (2, 3)
        lines = [json.loads(line) for line in rejected.read_text().splitlines()]
        assert [line["row"] for line in lines] == [3, 2, 1]
        assert {line["problems"][0]["message"] for line in lines[1:]} == {
            "is an event of this run that is rejected itself"
        }
    assert {event["name"] for event in polar_server.events()} == {"other child", "other parent"}


def test_parents_in_a_circle_are_sent_as_they_come(polar_server: LocalPolar, client: PolarClient) -> None:
    rows = [{**EVENT, "external_id": "a", "parent_id": "b"}, {**EVENT, "external_id": "b", "parent_id": "a"}]
    assert ingest(client, rows).inserted == 2


def test_unknown_parents_fail_the_run_or_are_taken_on_trust(polar_server: LocalPolar, client: PolarClient) -> None:
    rows = [{**EVENT, "parent_id": "yesterdays"}, {**EVENT, "parent_id": str(uuid4())}]
    with pytest.raises(PolarInvalidEventsError, match="2 of 2 rows are invalid"):
        ingest(client, rows)
    assert ingest_requests(polar_server) == []
    polar_server.clear_requests()
    assert ingest(client, rows, unknown_parents="accept").inserted == 2
    assert len(polar_server.requests) == 1


# Reading, limits, dry run


def test_a_source_that_breaks_off_sends_nothing(polar_server: LocalPolar, client: PolarClient, tmp_path: Path) -> None:
    import gzip

    file = tmp_path / "usage.jsonl.gz"
    file.write_bytes(gzip.compress(b"".join(json.dumps(EVENT).encode() + b"\n" for _ in range(5000)))[:-4])
    with pytest.raises(PolarSourceError):
        Ingest(lambda: client, IngestOptions(RUN, batch_size=10)).run(rows_of_files([file]), sources=[str(file)])
    assert polar_server.requests == []


def test_large_events_keep_requests_under_ten_megabytes(polar_server: LocalPolar, client: PolarClient) -> None:
    llm = {
        "vendor": "v",
        "model": "m",
        "input_tokens": 1,
        "output_tokens": 1,
        "total_tokens": 2,
        "prompt": "x" * 3_000_000,
    }
    rows = [{**EVENT, "metadata": {"n": n, "_llm": llm}} for n in range(7)]
    assert ingest(client, rows).batches == 3
    assert max(record.body_bytes for record in ingest_requests(polar_server)) <= MAX_BODY_BYTES
    llm["prompt"] = "x" * MAX_BODY_BYTES
    with pytest.raises(PolarInvalidEventsError, match="bytes as JSON"):
        ingest(client, [{**EVENT, "metadata": {"_llm": llm}}])


def test_a_mapping_explains_a_value_once(client: PolarClient) -> None:
    mapping = EventMapping(
        {"name": {"const": "a"}, "external_customer_id": "who", "timestamp": {"column": "at", "timezone": "UTC"}}
    )
    run = Ingest(lambda: client, IngestOptions(RUN))
    with pytest.raises(PolarInvalidEventsError) as caught:
        run.run(rows_in_memory([{"at": "noon"}]), mapping=mapping)
    assert [(problem.field, problem.message) for problem in caught.value.problems] == [
        ("timestamp", "is not an ISO 8601 moment"),
        ("external_customer_id", "column 'who' is empty or missing"),
    ]


def test_a_dry_run_shows_the_first_events_and_sends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def no_client() -> PolarClient:
        raise AssertionError("a dry run needs no client")

    with caplog.at_level(logging.INFO):
        summary = Ingest(no_client, IngestOptions(RUN, dry_run=True)).run(rows_in_memory(usage(1200)))
    assert summary == IngestSummary(1200, 0, 0, 0, 2, None)
    assert caplog.text.count("Would send: ") == 5
    assert '"external_id":"airflow-v1-' in caplog.text
    assert "1,200 events in 2 batches would be sent; nothing was sent." in caplog.text


def test_content_stays_out_of_logs_and_errors(
    polar_server: LocalPolar, client: PolarClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    secret = "s3cret-content"
    event = {"name": secret, "external_customer_id": secret, "metadata": {"a": secret}, "external_id": secret}
    bad = {**event, "timestamp": secret, "customer_id": secret, "metadata": {"b": [secret]}}
    with caplog.at_level(logging.DEBUG):
        ingest(client, [event])
        ingest(client, [bad], on_invalid="skip", rejected=UPath(f"file://{tmp_path}/rejected.jsonl"))
        for rows in ([bad], [event, {**event, "name": secret + "2"}], [{**EVENT, "parent_id": secret}]):
            with pytest.raises(PolarInvalidEventsError) as caught:
                ingest(client, rows)
            assert secret not in str(caught.value)
    assert secret not in caplog.text


def test_no_events_no_request(polar_server: LocalPolar, client: PolarClient) -> None:
    assert ingest(client, []) == IngestSummary(0, 0, 0, 0, 0, None)
    assert polar_server.requests == []


def test_answers_that_do_not_add_up_are_not_believed(client: PolarClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_polar.api.models import IngestResult

    monkeypatch.setattr(client, "send", lambda *_, **__: IngestResult(inserted=1, duplicates=0))
    with pytest.raises(PolarIngestIncompleteError, match="1 inserted and 0 duplicate events, but 2 were sent"):
        ingest(client, [EVENT, EVENT])
