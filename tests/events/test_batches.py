"""Where batches end, and the spool that they are read back from."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.api.requests import MAX_BODY_BYTES, ingest_encoded
from airflow_provider_polar.events.ingesting.batches import (
    ENVELOPE_BYTES,
    MAX_EVENT_BYTES,
    BatchCutter,
    ranges_set,
    ranges_text,
)
from airflow_provider_polar.events.ingesting.spool import Spool, Spooled


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 7), st.integers(80, 200))
def test_batches_hold_every_event_in_order_and_keep_both_limits(
    sizes: list[int], max_events: int, max_bytes: int
) -> None:
    cutter = BatchCutter(max_events, max_bytes)
    for number, size in enumerate(sizes):
        cutter.add(size + 16, size, (0, number))
    batches = cutter.finish()
    assert [batch.number for batch in batches] == list(range(len(batches)))
    assert sum(batch.events for batch in batches) == len(sizes)
    position = 0
    for batch in batches:
        inside = sizes[position : position + batch.events]
        body = len(ingest_encoded([b"x" * size for size in inside], repeatable=True).content or b"")
        assert 1 <= batch.events <= max_events
        assert body <= max_bytes
        assert (batch.first, batch.last) == ((0, position), (0, position + batch.events - 1))
        assert batch.length == sum(inside) + 16 * len(inside)
        position += batch.events
    # None of them ends before it must.
    for batch, following in pairwise(batches):
        end = following.first[1]
        inside = sizes[end - batch.events : end + 1]
        assert batch.events == max_events or ENVELOPE_BYTES + sum(inside) + len(inside) - 1 > max_bytes


def test_an_event_of_the_largest_size_makes_a_request_that_is_just_allowed() -> None:
    assert len(ingest_encoded([b"x" * MAX_EVENT_BYTES], repeatable=True).content or b"") == MAX_BODY_BYTES


@pytest.mark.parametrize("size", [0, 32_768])
def test_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32767"):
        BatchCutter(size)


@given(st.sets(st.integers(0, 40)))
def test_ranges_come_back(numbers: set[int]) -> None:
    assert ranges_set(ranges_text(numbers)) == numbers


def test_ranges_are_short() -> None:
    assert ranges_text([5, 0, 1, 2]) == "0-2,5"


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 6))
def test_the_spool_gives_back_what_it_was_given(payloads: list[bytes], size: int) -> None:
    with Spool(size) as spool:
        given_events = [Spooled(number % 2, number, payload) for number, payload in enumerate(payloads)]
        for event in given_events:
            spool.add(event)
        batches = spool.finish()
        assert [event for batch in batches for event in spool.read(batch)] == given_events
        # Backwards as well: threads read in any order.
        assert [list(spool.read(batch)) for batch in reversed(batches)] == [
            given_events[batch.number * size : (batch.number + 1) * size] for batch in reversed(batches)
        ]


def test_the_digest_tells_events_order_and_batches_apart() -> None:
    def digest(payloads: list[str], size: int = 2) -> str:
        with Spool(size) as spool:
            for number, payload in enumerate(payloads):
                spool.add(Spooled(0, number, json.dumps(payload).encode()))
            spool.finish()
            return spool.digest

    assert digest(["a", "b"]) == digest(["a", "b"])
    assert len({digest(["a", "b"]), digest(["b", "a"]), digest(["a"]), digest(["a", "b"], 3)}) == 4
