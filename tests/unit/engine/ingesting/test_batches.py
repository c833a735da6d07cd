"""Where batches end, and the journal that they are read back from."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.api.limits import MAX_BODY_BYTES
from airflow_provider_polar.api.requests import ingest_encoded
from airflow_provider_polar.engine.ingesting.batches import (
    MAX_EVENT_BYTES,
    counted,
    ranges_set,
    ranges_text,
    rows_in_words,
)
from airflow_provider_polar.engine.ingesting.journal import EncodedEvent, Journal


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 7), st.integers(80, 200))
def test_batches_hold_every_event_in_order_and_keep_both_limits(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    with Journal(max_events, max_bytes) as journal:
        events = [EncodedEvent(0, number, b"x" * size) for number, size in enumerate(sizes)]
        complete = [journal.add(event) for event in events]
        complete.append(journal.cut())
        batches = journal.batches
        assert [batch for batch in complete if batch is not None] == batches
        assert [batch.number for batch in batches] == list(range(len(batches)))
        read = [journal.read(batch) for batch in batches]
        assert [event for one in read for event in one] == events
        bodies = [len(ingest_encoded([event.payload for event in one], repeatable=True).content or b"") for one in read]
        for batch, one, body in zip(batches, read, bodies, strict=True):
            assert 1 <= batch.events == len(one) <= max_events
            assert body <= max_bytes
        # None of them ends before it must.
        for (one, body), (following, _) in pairwise(zip(read, bodies, strict=True)):
            assert len(one) == max_events or body + 1 + len(following[0].payload) > max_bytes


def test_an_event_of_the_largest_size_makes_a_request_that_is_just_allowed() -> None:
    assert len(ingest_encoded([b"x" * MAX_EVENT_BYTES], repeatable=True).content or b"") == MAX_BODY_BYTES


@pytest.mark.parametrize("size", [0, 32_768])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32767"):
        Journal(size)


@given(st.sets(st.integers(0, 40)))
def test_ranges_come_back(numbers: set[int]) -> None:
    assert ranges_set(ranges_text(numbers)) == numbers


def test_ranges_are_short() -> None:
    assert ranges_text([5, 0, 1, 2]) == "0-2,5"


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 700)), unique=True, max_size=500))
def test_rows_in_words_name_every_row_and_no_other(places: list[tuple[int, int]]) -> None:
    sources = ["", "a.jsonl", "b.jsonl"]
    named = []
    for line in rows_in_words(sorted(places), sources):
        rows, _, source = line.partition(" of ")
        for one in rows.split(" ", 1)[1].split(", "):
            first, _, last = one.replace(",", "").partition("-")
            named += [(sources.index(source), number) for number in range(int(first), int(last or first) + 1)]
    assert named == sorted(places)


def test_numbers_of_things() -> None:
    assert [counted(*one) for one in ((1, "event"), (2000, "event"), (3, "batch"), (2, "retry"), (1, "retry"))] == [
        "1 event",
        "2,000 events",
        "3 batches",
        "2 retries",
        "1 retry",
    ]


def test_a_journal_is_read_in_any_order_and_while_it_is_written() -> None:
    with Journal(2) as journal:
        events = [EncodedEvent(number % 2, number, b"%d" % number) for number in range(7)]
        batches = [batch for event in events if (batch := journal.add(event))]
        assert [journal.read(batch) for batch in reversed(batches)] == [events[4:6], events[2:4], events[:2]]
        journal.hold(events[0], "parent", None)
        journal.hold(events[1], "child", "parent")
        assert list(journal.release({})) == []
        assert [(batch.events, batch.generation) for batch in journal.batches] == [(2, 0)] * 4 + [(1, 1)]


def test_the_digest_tells_events_order_and_batches_apart() -> None:
    def digest(payloads: list[str], size: int = 2) -> str:
        with Journal(size) as journal:
            for number, payload in enumerate(payloads):
                journal.add(EncodedEvent(0, number, json.dumps(payload).encode()))
            journal.cut()
            return journal.digest

    assert digest(["a", "b"]) == digest(["a", "b"])
    assert len({digest(["a", "b"]), digest(["b", "a"]), digest(["a"]), digest(["a", "b"], 1)}) == 4
