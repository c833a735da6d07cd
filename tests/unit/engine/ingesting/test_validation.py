"""Polar's rules in words, and that the local Polar agrees with what passes."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.ingesting.validation import EventValidator
from airflow_provider_polar.exceptions import EventProblem
from airflow_provider_polar.testing import LocalPolar
from tests.paths import DATA

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
UUID4 = "5c27e45b-7259-4c1b-a3fa-1f1625ba8e66"
OK = {"name": "a", "external_customer_id": "c"}
COST = {"amount": 1.5, "currency": "usd"}
LLM = {"vendor": "v", "model": "m", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3}


def check(row: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    return EventValidator(lambda: NOW)(row)


def metadata(**values: Any) -> dict[str, Any]:
    return {**OK, "metadata": values}


INVALID: list[tuple[Any, str, str]] = [
    ("text", "", "is text; an event is an object"),
    (None, "", "is null"),
    ([OK], "", "is a list"),
    ({}, "name", "is missing"),
    ({"external_customer_id": "c"}, "name", "is missing"),
    ({**OK, "name": None}, "name", "is missing"),
    ({**OK, "name": ""}, "name", "is empty"),
    ({**OK, "name": "x" * 129}, "name", "has 129 characters"),
    ({**OK, "name": 7}, "name", "is a number; it is text"),
    ({**OK, "name": "a\0b"}, "name", "NUL"),
    ({**OK, "name": "\ud800"}, "name", "surrogate"),
    ({"name": "a"}, "", "has no customer"),
    ({**OK, "external_customer_id": None}, "", "has no customer"),
    ({**OK, "customer_id": UUID4}, "", "has both customer_id and external_customer_id"),
    ({**OK, "external_customer_id": 7}, "external_customer_id", "is a number"),
    ({**OK, "external_customer_id": ""}, "external_customer_id", "is empty"),
    ({"name": "a", "customer_id": "cust_1"}, "customer_id", "is not a UUID"),
    ({"name": "a", "customer_id": 5}, "customer_id", "is not a UUID"),
    ({"name": "a", "customer_id": "5c27e45b-7259-1c1b-a3fa-1f1625ba8e66"}, "customer_id", "version 4"),
    ({**OK, "member_id": UUID4}, "member_id", "goes with customer_id"),
    ({"name": "a", "customer_id": UUID4, "external_member_id": "m"}, "external_member_id", "goes with external_"),
    ({**OK, "organization_id": UUID4}, "organization_id", "is refused"),
    ({**OK, "external_id": ""}, "external_id", "is empty"),
    ({**OK, "external_id": 5}, "external_id", "is a number"),
    ({**OK, "parent_id": ["x"]}, "parent_id", "is a list"),
    ({**OK, "external_id": "x", "parent_id": "x"}, "parent_id", "its own parent"),
    ({**OK, "nam": "x"}, "nam", "did you mean name?"),
    ({**OK, "metdata": {}}, "metdata", "did you mean metadata?"),
    ({**OK, "timestamp": None}, "timestamp", "is null"),
    ({**OK, "timestamp": "2026-01-01T00:00:00"}, "timestamp", "has no time zone"),
    ({**OK, "timestamp": "2026-01-01"}, "timestamp", "has no time zone"),
    ({**OK, "timestamp": datetime(2026, 1, 1)}, "timestamp", "has no time zone"),  # noqa: DTZ001
    ({**OK, "timestamp": "yesterday"}, "timestamp", "is not an ISO 8601 moment"),
    ({**OK, "timestamp": 1767225600}, "timestamp", "is a number"),
    ({**OK, "timestamp": True}, "timestamp", "is a boolean"),
    ({**OK, "timestamp": "1969-12-31T23:59:59.999999Z"}, "timestamp", "before 1970"),
    ({**OK, "timestamp": "1970-01-01T00:30:00+01:00"}, "timestamp", "before 1970"),
    ({**OK, "timestamp": "0001-01-01T00:00:00+10:00"}, "timestamp", "outside the years"),
    ({**OK, "timestamp": "2026-06-01T12:01:00Z"}, "timestamp", "in the future"),
    ({**OK, "timestamp": "2026-06-01T12:00:06Z"}, "timestamp", "in the future"),
    ({**OK, "metadata": [1]}, "metadata", "is a list; it is a flat object"),
    ({**OK, "metadata": {f"k{n}": n for n in range(51)}}, "metadata", "has 51 keys"),
    (metadata(**{"k" * 41: 1}), "metadata." + "k" * 41, "the key is 41 characters"),
    ({**OK, "metadata": {"": 1}}, "metadata.", "the key is 0 characters"),
    ({**OK, "metadata": {7: 1}}, "metadata.7", "the key is a number"),
    ({**OK, "metadata": {"\ud800": 1}}, "metadata.\\ud800", "the key holds half a surrogate"),
    ({**OK, "metadata": {"a\0\nb": 1}}, "metadata.a\\x00\\nb", "the key"),
    (metadata(a=""), "metadata.a", "is empty"),
    (metadata(a="x" * 501), "metadata.a", "has 501 characters"),
    (metadata(a="x\0"), "metadata.a", "NUL"),
    (metadata(a=None), "metadata.a", "is null"),
    (metadata(a=[1]), "metadata.a", "is a list"),
    (metadata(a={"b": 1}), "metadata.a", "is nested"),
    (metadata(a=b"x"), "metadata.a", "is a bytes"),
    (metadata(a=math.nan), "metadata.a", "is NaN"),
    (metadata(a=Decimal("NaN")), "metadata.a", "is NaN"),
    (metadata(a=math.inf), "metadata.a", "is infinite"),
    (metadata(a=10**400), "metadata.a", "is infinite or too large"),
    (metadata(a=datetime(2026, 1, 1)), "metadata.a", "without a time zone"),  # noqa: DTZ001
    (metadata(_cost=5), "metadata._cost", "is a number"),
    (metadata(_cost={**COST, "currency": "eur"}), "metadata._cost.currency", 'is not "usd"'),
    (metadata(_cost={"amount": 1}), "metadata._cost.currency", "is missing"),
    (metadata(_cost={"currency": "usd"}), "metadata._cost.amount", "is missing"),
    (metadata(_cost={**COST, "amount": True}), "metadata._cost.amount", "is a boolean"),
    (metadata(_cost={**COST, "amount": "many"}), "metadata._cost.amount", "is not a finite number"),
    (metadata(_cost={**COST, "amount": math.nan}), "metadata._cost.amount", "is not a finite number"),
    (metadata(_cost={**COST, "amount": 100_000}), "metadata._cost.amount", "more than 5 digits"),
    (metadata(_cost={**COST, "amount": "0.0000000000001"}), "metadata._cost.amount", "or 12 after"),
    (metadata(_cost={**COST, "tax": 1}), "metadata._cost.tax", "is not a field that Polar knows"),
    (metadata(_llm="gpt"), "metadata._llm", "is text"),
    (metadata(_llm={**LLM, "vendor": None}), "metadata._llm.vendor", "is missing"),
    (metadata(_llm={**LLM, "input_tokens": "1"}), "metadata._llm.input_tokens", "is text"),
    (metadata(_llm={**LLM, "input_tokens": 1.5}), "metadata._llm.input_tokens", "is not a whole number"),
    (metadata(_llm={**LLM, "output_token": 1}), "metadata._llm.output_token", "did you mean output_tokens?"),
]


@pytest.mark.parametrize(("row", "field", "told"), INVALID)
def test_what_is_invalid_is_told_once_in_words(row: Any, field: str, told: str) -> None:
    _, problems = check(row)
    assert len([problem for problem in problems if problem.field == field]) == 1
    assert told in {problem.field: problem.message for problem in problems}[field]
    if isinstance(row, dict) and row:
        assert len(problems) == 1, problems


@pytest.mark.parametrize(
    ("given_value", "sent"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01 01:00:00+01:00", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.1234569Z", "2026-01-01T00:00:00.123456Z"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("2026-06-01T12:00:04Z", "2026-06-01T12:00:04Z"),
    ],
)
def test_timestamps_are_sent_as_utc_to_the_microsecond(given_value: Any, sent: str) -> None:
    event, problems = check({**OK, "timestamp": given_value})
    assert (event["timestamp"], problems) == (sent, [])


def test_python_values_become_json() -> None:
    numpy = pytest.importorskip("numpy")
    event, problems = check(
        {
            "name": "a",
            "customer_id": UUID(UUID4),
            "metadata": {
                "decimal": Decimal("1.5"),
                "whole": Decimal("2.0"),
                "uuid": UUID(UUID4),
                "day": date(2026, 1, 1),
                "moment": datetime(2026, 1, 1, tzinfo=UTC),
                "int64": numpy.int64(7),
                "flag": numpy.bool_(True),
                "_cost": {"amount": Decimal("0.025"), "currency": "usd"},
                "_llm": {**LLM, "input_tokens": 1.0, "prompt": None},
            },
        }
    )
    assert problems == []
    assert json.loads(json.dumps(event)) == {
        "name": "a",
        "customer_id": UUID4,
        "metadata": {
            "decimal": 1.5,
            "whole": 2,
            "uuid": UUID4,
            "day": "2026-01-01",
            "moment": "2026-01-01T00:00:00Z",
            "int64": 7,
            "flag": True,
            "_cost": {"amount": "0.025", "currency": "usd"},
            "_llm": LLM,
        },
    }


def test_every_problem_of_a_row_is_told() -> None:
    _, problems = check({"nam": "x", "timestamp": "now", "metadata": {"a": None, "b": []}})
    assert [problem.field for problem in problems] == ["nam", "timestamp", "metadata.a", "metadata.b", "name", ""]


def test_a_problem_says_its_row_as_people_count() -> None:
    problem = EventProblem("name", "is missing").of_row("s3://b/a.jsonl", 3)
    assert str(problem) == "s3://b/a.jsonl, row 3, name: is missing"
    assert str(EventProblem("", "has no customer").of_row("", 1)) == "row 1: has no customer"


def test_a_clock_that_moves_on_is_asked_again() -> None:
    moments = iter([NOW, NOW + timedelta(minutes=1)])
    _, problems = EventValidator(lambda: next(moments))({**OK, "timestamp": NOW + timedelta(seconds=30)})
    assert problems == []


SAMPLES = sorted((DATA / "samples").glob("ingest-*.json"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_recorded_requests_are_judged_as_polar_did(path: Path) -> None:
    sample = json.loads(path.read_text())
    body, status = sample["request"]["json"], sample["response"]["status"]
    # Only Polar knows its customers; what it calls the future was so when it was recorded.
    if body is None or path.stem in ("ingest-unknown-customer", "ingest-future"):
        pytest.skip("not about an event's own form")
    problems = [problem for event in body["events"] for problem in EventValidator()(event)[1]]
    assert bool(problems) == (status == 422), problems


texts = st.text(max_size=600)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.decimals() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=45), inner, max_size=3),
    max_leaves=4,
)
rows = st.fixed_dictionaries(
    {"name": st.text(max_size=130), "external_customer_id": texts},
    optional={
        "timestamp": st.datetimes(timezones=st.just(UTC)).map(str) | anything,
        "metadata": st.dictionaries(st.text(max_size=45), anything, max_size=4) | anything,
        "external_id": texts,
        "member_id": anything,
        "other": anything,
    },
)


@pytest.fixture(scope="module")
def polar() -> Any:
    with LocalPolar() as server, PolarClient(server.token, base_url=server.base_url) as client:
        yield client


@settings(max_examples=150, deadline=None)
@given(row=rows)
def test_what_passes_here_passes_at_polar(polar: PolarClient, row: dict[str, Any]) -> None:
    event, problems = EventValidator()(row)
    if not problems:
        answer = polar.ingest([event])
        assert answer.inserted + answer.duplicates == 1
