"""The identity of events: what it depends on, and what it does not."""

from __future__ import annotations

import json
import random
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_polar.engine.ingesting.identity import (
    CONTENT_SCOPE,
    Conflict,
    Identities,
    canonical,
    derive,
    named_scope,
    run_scope,
)
from airflow_provider_polar.engine.ingesting.journal import temporary_database
from airflow_provider_polar.engine.ingesting.validation import EventValidator

RUN = run_scope("dag", "task", "run", -1)
START = datetime(2026, 1, 1, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
values = st.one_of(texts, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
events = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["a", "b"]),
        "external_customer_id": st.sampled_from(["c", "d"]),
        "timestamp": st.integers(0, 3).map(lambda us: START + timedelta(microseconds=us)),
        "metadata": st.dictionaries(texts.filter(lambda key: not key.startswith("_")), values, max_size=3),
    }
)


def identities(rows: list[dict[str, Any]], scope: str = RUN) -> list[Any]:
    validate = EventValidator()
    found = []
    with closing(temporary_database()) as database:
        known = Identities(scope, database)
        for number, row in enumerate(rows, 1):
            event, problems = validate(row)
            assert problems == []
            found.append(known.identify(event, number))
    return found


@given(st.lists(events, max_size=12), st.randoms(use_true_random=False))
def test_rows_in_another_order_have_the_same_identities(rows: list[dict[str, Any]], chance: random.Random) -> None:
    shuffled = chance.sample(rows, len(rows))
    assert sorted(identities(rows)) == sorted(identities(shuffled))


@given(events)
def test_keys_in_another_order_are_the_same_event(event: dict[str, Any]) -> None:
    turned = dict(reversed(event.items()))
    turned["metadata"] = dict(reversed(event["metadata"].items()))
    assert identities([event]) == identities([turned])


@given(st.integers(-(2**53), 2**53), st.sampled_from(["{}", "{}.0", "{}e0", "{}.000", "{}.0e0"]))
def test_a_number_written_in_another_way_is_the_same_event(number: int, written: str) -> None:
    row = {"name": "a", "external_customer_id": "c", "metadata": {"n": number}}
    again = json.loads(json.dumps(row).replace(f": {number}}}", f": {written.format(number)}}}"))
    assert identities([row]) == identities([again])


def test_numbers_booleans_and_text_differ() -> None:
    rows = [{"name": "a", "external_customer_id": "c", "metadata": {"n": n}} for n in (1, True, "1", "true", 1.5)]
    assert len(set(identities(rows))) == 5
    assert len({identities([row])[0] for row in rows}) == 5


@given(st.integers(0, 999_999), st.integers(-14 * 60, 14 * 60))
def test_a_moment_written_in_another_zone_or_finer_is_the_same_event(microsecond: int, offset: int) -> None:
    moment = START + timedelta(microseconds=microsecond)
    local = moment.astimezone(timezone(timedelta(minutes=offset)))
    written = [moment, local, local.isoformat(), moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "999Z"]
    rows = [{"name": "a", "external_customer_id": "c", "timestamp": value} for value in written]
    assert len({identities([row])[0] for row in rows}) == 1


def test_a_field_that_is_none_is_absent() -> None:
    row = {"name": "a", "external_customer_id": "c"}
    assert identities([row]) == identities([{**row, "parent_id": None, "metadata": {}}])


@given(events, st.integers(2, 6))
def test_equal_rows_get_different_identities(event: dict[str, Any], number: int) -> None:
    assert len(set(identities([event] * number))) == number


@given(events)
def test_another_run_task_or_map_index_gives_others(event: dict[str, Any]) -> None:
    scopes = [
        RUN,
        run_scope("dag", "task", "run2", -1),
        run_scope("dag", "task2", "run", -1),
        run_scope("dag2", "task", "run", -1),
        run_scope("dag", "task", "run", 0),
        named_scope("run"),
        named_scope("content"),
        CONTENT_SCOPE,
    ]
    assert len({identities([event], scope)[0] for scope in scopes}) == len(scopes)


@given(st.lists(events, min_size=2, max_size=2))
def test_different_content_gives_different_identities(pair: list[dict[str, Any]]) -> None:
    first, second = (EventValidator()(row)[0] for row in pair)
    same = canonical(first) == canonical(second)
    assert same == (identities([pair[0]]) == identities([pair[1]]))


def test_scopes_cannot_be_made_to_meet_by_separators() -> None:
    assert run_scope("a", "b", "c", -1) != run_scope('a", "b', "c", "", -1)
    assert derive("ab", b"c", 0) != derive("a", b"bc", 0)


def test_the_identity_is_a_promise_that_later_versions_keep() -> None:
    row = {
        "name": "call.made",
        "external_customer_id": "cüst",
        "timestamp": "2026-01-01T01:00:00.5+01:00",
        "metadata": {"tokens": 12.0, "ok": True, "_cost": {"amount": "1.50", "currency": "usd"}},
    }
    assert identities([row, row]) == [
        "airflow-v1-02266489606e6d10ea579a418941731d12e20614",
        "airflow-v1-c750509f68a77fb11667b242c527bb5501523e85",
    ]


def test_an_explicit_id_is_kept_and_an_equal_event_under_it_comes_once() -> None:
    row = {"name": "a", "external_customer_id": "c", "external_id": "x1", "metadata": {"n": 1}}
    assert identities([row, {**row, "metadata": {"n": 1.0}}]) == ["x1", None]


def test_different_content_under_one_explicit_id_is_a_conflict_that_names_the_first_row() -> None:
    row = {"name": "a", "external_customer_id": "c", "external_id": "x1"}
    assert identities([row, {**row, "name": "b"}, row]) == ["x1", Conflict(1), None]


def test_parents_outside_the_run_are_known_whatever_the_order() -> None:
    base = {"name": "a", "external_customer_id": "c"}
    with closing(temporary_database()) as database:
        known = Identities(RUN, database)
        known.identify({**base, "parent_id": "later"}, 1)
        known.identify({**base, "parent_id": "elsewhere"}, 2)
        known.identify({**base, "external_id": "later"}, 3)
        assert list(known.foreign_parents()) == ["elsewhere"]
