"""An outage of Polar ends an ingest within about one patience, and what was not sent is not called perhaps stored."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import httpx
import pytest

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.models import IngestResult
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.ingesting import dispatcher as dispatching
from airflow_provider_polar.engine.ingesting.batches import Batch
from airflow_provider_polar.engine.ingesting.identity import run_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest, IngestOptions, IngestSummary
from airflow_provider_polar.engine.ingesting.journal import Journal
from airflow_provider_polar.engine.ingesting.rejected import RejectedRows
from airflow_provider_polar.engine.ingesting.sending import Sent
from airflow_provider_polar.engine.ingesting.sources import rows_in_memory
from airflow_provider_polar.exceptions import PolarIngestIncompleteError, PolarTransportError
from airflow_provider_polar.testing import LocalPolar

SHORT = Retries(initial=0.01, maximum=0.05, patience=0.3)


def ingest(client: Any, number: int, **options: Any) -> IngestSummary:
    events = [{"name": "a", "external_customer_id": "c", "metadata": {"n": n}} for n in range(number)]
    options = {"batch_size": 10, **options}
    run = Ingest(lambda: client, IngestOptions(run_scope("dag", "task", uuid4().hex, -1), **options))
    return run.run(rows_in_memory(events))


@pytest.fixture
def refusing() -> Iterator[PolarClient]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with PolarClient("polar_oat_x", base_url=url, retries=SHORT, connection="polar_default") as client:
            yield client


@pytest.mark.parametrize("max_concurrency", [1, 4])
def test_an_outage_takes_one_patience_and_nothing_sent_is_told_as_such(
    refusing: PolarClient, caplog: pytest.LogCaptureFixture, max_concurrency: int
) -> None:
    with caplog.at_level(logging.WARNING), pytest.raises(PolarIngestIncompleteError) as caught:
        ingest(refusing, 1000, max_concurrency=max_concurrency)
    first_retries = [record for record in caplog.records if record.getMessage().endswith(", retry 1")]
    assert len(first_retries) == max_concurrency
    server = f"({refusing.server.base_url}, connection polar_default)"
    assert str(caught.value) == (
        f"Not every event is stored: Polar cannot be reached: connection refused {server}. Of 1,000 events, 1,000 are "
        "not known to be stored; 1,000 events not sent by this attempt (rows 1-1,000). A retry is safe: stored events "
        "are recognised by their identity and not billed again"
    )
    assert caught.value.retryable


def test_a_lost_response_before_a_refused_connection_is_remembered(polar_server: LocalPolar) -> None:
    polar_server.fail("lost_response", path="ingest", times=1)
    with PolarClient(polar_server.token, base_url=polar_server.base_url, retries=SHORT) as client:
        real, sends = client._http.send, iter(range(1000))

        def send(*args: Any, **options: Any) -> Any:
            if next(sends):
                raise httpx.ConnectError("refused")
            return real(*args, **options)

        client._http.send = send  # type: ignore[method-assign]
        with pytest.raises(PolarIngestIncompleteError, match="10 events sent without a response, so perhaps stored"):
            ingest(client, 10)


def test_parents_that_cannot_be_looked_up_leave_nothing_unclear(refusing: PolarClient) -> None:
    event = {"name": "a", "external_customer_id": "c", "parent_id": str(uuid4())}
    run = Ingest(lambda: refusing, IngestOptions(run_scope("dag", "task", "run", -1)))
    with pytest.raises(
        PolarIngestIncompleteError, match=r"cannot be reached: .*\)\. A retry usually helps\. Nothing has been sent$"
    ) as caught:
        run.run(rows_in_memory([event]))
    assert caught.value.retryable


class Clock:
    """Stands for the module ``time``: passes when a request does."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Polar:
    """A client whose batches are stored until the outage, and then use up the patience that they are given."""

    def __init__(self, clock: Clock, stored: int) -> None:
        self.server = self
        self.account = "account"
        self.retries = Retries(patience=120)
        self._clock, self._stored, self._sends = clock, stored, 0

    def send(self, request: Any, _decode: Any, *, retries: Retries, on_retry: Any) -> IngestResult:
        self._sends += 1
        if self._sends > self._stored:
            assert retries.patience is not None
            self._clock.now += retries.patience
            raise PolarTransportError("gone", sent=False)
        self._clock.now += 1
        return IngestResult(inserted=request.content.count(b'"name"'))


def test_an_outage_ends_the_attempt_within_one_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(dispatching, "time", clock)
    with pytest.raises(PolarIngestIncompleteError, match="950 are not known to be stored; 950 events not sent"):
        ingest(Polar(clock, stored=5), 1000, max_concurrency=1)
    assert clock.now == 5 + 120


def test_another_turn_has_only_the_rest_of_the_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(dispatching, "time", clock)
    polar, patiences = Polar(clock, stored=0), list[float | None]()

    def gone_after_30_seconds(_request: Any, _decode: Any, *, retries: Retries, **_: Any) -> IngestResult:
        patiences.append(retries.patience)
        clock.now += 30
        raise PolarTransportError("gone", sent=False)

    monkeypatch.setattr(polar, "send", gone_after_30_seconds)
    with pytest.raises(PolarIngestIncompleteError, match="10 events not sent by this attempt"):
        ingest(polar, 10, max_concurrency=4)
    assert patiences == [120, 90, 60]


def test_others_that_got_through_count_whenever_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows are read, requests are looked at between two batches only, many at a time."""
    clock = Clock()
    monkeypatch.setattr(dispatching, "time", clock)
    polar: Any = Polar(clock, stored=0)
    options: dict[str, Any] = {
        "skip": True,
        "max_concurrency": 8,
        "progress": None,
        "target": "",
        "log": logging.getLogger(),
    }
    for failing in range(8):
        with (
            Journal(1) as journal,
            RejectedRows(None) as rejected,
            dispatching.Dispatcher(lambda: polar, journal, [""], rejected, **options) as dispatcher,
        ):
            for number in range(8):
                future: Future[Sent] = Future()
                error = PolarTransportError("gone", sent=False)
                future.set_result(Sent(error=error) if number == failing else Sent(inserted=1))
                dispatcher._flying[future] = Batch(number, 1, 1), clock.now
            clock.now += 600
            dispatcher._collect(0)
            assert [batch.number for batch in dispatcher._coming] == [failing]
            assert not dispatcher._failed
