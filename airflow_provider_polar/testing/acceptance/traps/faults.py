"""Traps of a server that fails, while events are listed and while they are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_polar.testing.acceptance.clients import ClientFailed
from airflow_provider_polar.testing.acceptance.trap import Event, Run, Verdict, ids, judged, trap


def _listed(run: Run, kind: Any, **fault: Any) -> Verdict:
    """Whether a list is whole in spite of a fault that strikes after its first request or two."""
    due = run.add(run.moments(320))
    run.polar.fail(kind, path="list", after=run.chance.randint(1, 2), **fault)
    return judged(due, ids(run.read()))


@trap
def list_429(run: Run) -> Verdict:
    """HTTP 429 to two requests of a list."""
    return _listed(run, "rate_limit", retry_after=1, times=2)


@trap
def list_503(run: Run) -> Verdict:
    """HTTP 503 to three requests of a list, one after the other."""
    return _listed(run, "status", status=503, times=3)


@trap
def list_resets(run: Run) -> Verdict:
    """The connection is reset at two requests of a list."""
    return _listed(run, "reset", times=2)


def _stored(run: Run, events: Iterable[Event]) -> Verdict:
    """Whether the server has each event once. What a client that failed did not send is not lost."""
    sent, failure = list(events), ""
    try:
        run.ingest(sent)
    except ClientFailed as error:
        failure = str(error) or "failed"
    verdict = judged(
        (event["metadata"]["number"] for event in sent), (event["metadata"]["number"] for event in run.polar.events())
    )
    return Verdict(0 if failure else verdict.lost, verdict.twice, failure)


def _usage(run: Run, **fields: Any) -> list[Event]:
    """New events, each of its own number."""
    return [
        {**run.event(), "timestamp": moment.isoformat(), "metadata": {"number": number}, **fields}
        for number, moment in enumerate(run.moments(2_000))
    ]


@trap
def ingest_lost_responses(run: Run) -> Verdict:
    """A batch is stored, and no response comes; its events have no external id."""
    run.polar.fail("lost_response", path="ingest", times=run.chance.randint(1, 2))
    return _stored(run, _usage(run))


@trap
def ingest_lost_responses_with_ids(run: Run) -> Verdict:
    """The same with an external id for each event, by which Polar knows it again."""
    run.polar.fail("lost_response", path="ingest", times=run.chance.randint(1, 2))
    return _stored(run, ({**event, "external_id": f"usage-{number}"} for number, event in enumerate(_usage(run))))


@trap
def ingest_429(run: Run) -> Verdict:
    """HTTP 429 to two batches."""
    run.polar.fail("rate_limit", path="ingest", retry_after=1, times=2)
    return _stored(run, _usage(run))


@trap
def ingest_503(run: Run) -> Verdict:
    """HTTP 503 to three batches, one after the other."""
    run.polar.fail("status", status=503, path="ingest", times=3)
    return _stored(run, _usage(run))


@trap
def ingest_resets(run: Run) -> Verdict:
    """The connection is reset at two batches."""
    run.polar.fail("reset", path="ingest", times=2)
    return _stored(run, _usage(run))
