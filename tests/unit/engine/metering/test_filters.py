"""Which events a meter takes; every rule is PostgreSQL's, as ``tests/integration/test_metering.py`` shows."""

from __future__ import annotations

import pytest

from airflow_provider_polar.engine.metering.quantities import Meter
from airflow_provider_polar.exceptions import PolarConfigurationError
from tests.unit.engine.metering.meters import clause, event, meter


@pytest.mark.parametrize(
    ("metadata", "asked", "taken"),
    [
        # Text as text, with the value as text.
        ({"k": "10"}, ("k", "eq", "10"), True),
        ({"k": "10"}, ("k", "eq", 10), True),
        ({"k": "9"}, ("k", "gt", 10), True),
        ({"k": "t"}, ("k", "eq", True), True),
        ({"k": "true"}, ("k", "eq", True), False),
        # Numbers as floats, with a boolean as 1 or 0, and with no text.
        ({"k": 10.0}, ("k", "eq", 10), True),
        ({"k": 0.5}, ("k", "gt", 0), True),
        ({"k": 1}, ("k", "eq", True), True),
        ({"k": 10}, ("k", "eq", "10"), False),
        ({"k": 10}, ("k", "ne", "10"), False),
        # Booleans with booleans only.
        ({"k": True}, ("k", "eq", True), True),
        ({"k": True}, ("k", "ne", False), True),
        ({"k": True}, ("k", "eq", 1), False),
        ({"k": True}, ("k", "ne", 0), False),
        # A property that is not there, or null, is never taken.
        ({}, ("k", "ne", "a"), False),
        ({}, ("k", "not_like", "a"), False),
        ({"k": None}, ("k", "ne", "a"), False),
        ({"k": None}, ("k", "not_like", "a"), False),
        # "like" is "contains", in everything's text.
        ({"k": "a%b"}, ("k", "like", "%"), True),
        ({"k": "ab"}, ("k", "like", "%"), False),
        ({"k": "ab"}, ("k", "like", "a_"), False),
        ({"k": "ABC"}, ("k", "like", "b"), False),
        ({"k": "ABC"}, ("k", "not_like", "b"), True),
        ({"k": True}, ("k", "like", "ru"), True),
        ({"k": 1e22}, ("k", "like", "e"), False),
        ({"k": 1.0}, ("k", "like", "1.0"), True),
        ({"k": {"bb": "x", "c": 1e-7}}, ("k", "like", '"c": 0.0000001, "bb"'), True),
        # A path into objects; "metadata." before it is dropped.
        ({"_llm": {"total_tokens": 3}}, ("_llm.total_tokens", "eq", 3), True),
        ({"k": 3}, ("metadata.k", "eq", 3), True),
        ({"a.b": 3}, ("a.b", "eq", 3), False),
        ({"k": "text"}, ("k.deeper", "ne", 3), False),
        # Polar lists the amount of a cost as text, and holds a number.
        ({"_cost": {"amount": "12.0"}}, ("_cost.amount", "gte", 12), True),
        ({"_cost": {"amount": "12.0"}}, ("_cost.amount", "eq", "12.0"), False),
    ],
)
def test_clauses_over_metadata(metadata, asked, taken):
    assert meter("count", clause(*asked)).takes(event(metadata=metadata)) is taken


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        (("name", "eq", "api.call"), True),
        (("metadata.name", "eq", "api.call"), True),
        (("name", "like", "pi.c"), True),
        (("source", "ne", "system"), True),
        (("name", "ne", 1), False),
        (("name", "not_like", True), False),
        (("timestamp", "eq", 1_793_628_001), True),
        (("timestamp", "lte", 1_793_628_000), False),
        (("timestamp", "like", 1_793), True),
        (("timestamp", "ne", "1"), False),
        (("timestamp", "ne", True), False),
    ],
)
def test_clauses_over_the_fields(asked, taken):
    # The half second is rounded up, as PostgreSQL makes whole numbers.
    it = event("2026-11-02T14:00:00.500000Z", metadata={"name": "other"})
    assert meter("count", clause(*asked)).takes(it) is taken


def test_groups_nest_and_an_empty_one_takes_everything():
    yes, no = clause("name", "eq", "api.call"), clause("name", "eq", "other")
    either = {"conjunction": "or", "clauses": [no, {"conjunction": "and", "clauses": [yes, yes]}]}
    assert meter("count", either).takes(event())
    assert meter("count", yes, either).takes(event())
    assert not meter("count", no, either).takes(event())
    assert meter("count").takes(event())
    assert meter("count", {"conjunction": "or", "clauses": []}).takes(event())


@pytest.mark.parametrize(
    ("part", "value", "complaint"),
    [
        ("filter", {"conjunction": "xor", "clauses": []}, "filter is neither a clause"),
        ("filter", {"conjunction": "and", "clauses": [clause("k", "regex", "secret")]}, "clauses.0 has the unknown op"),
        ("filter", {"conjunction": "and", "clauses": [clause("k", "eq", 1.5)]}, "filter.clauses.0 is neither"),
        ("filter", None, "filter is neither"),
        ("aggregation", {"func": "median", "property": "k"}, "unknown function median; known are count, sum"),
        ("aggregation", {"func": "sum"}, "lacks a function"),
        ("aggregation", None, "lacks a function"),
    ],
)
def test_what_is_not_known_here_is_said_with_the_meter(part, value, complaint):
    given = {"id": "m-1", "name": "API calls", "filter": {"conjunction": "and", "clauses": []}}
    with pytest.raises(PolarConfigurationError, match=r"^the meter API calls \(m-1\) cannot be evaluated") as caught:
        Meter.parse(given | {"aggregation": {"func": "count"}} | {part: value})
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)
