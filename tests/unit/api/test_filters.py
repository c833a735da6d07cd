"""Filters that Polar would ignore are refused; the others arrive as Polar takes them."""

import json

import pytest
from pydantic import ValidationError

from airflow_provider_polar.api.filters import EventFilters, FilterClause, ListFilters
from airflow_provider_polar.exceptions import PolarFilterError

UUID = "1dcbb152-fc83-4415-9bb7-be2956dd0a9d"
CLAUSE = {"property": "n", "operator": "eq", "value": 1}


def test_every_filter_is_a_keyword_of_the_clients():
    assert set(ListFilters.__annotations__) == set(EventFilters.model_fields)


def test_an_unknown_filter_is_refused_with_the_known_ones():
    with pytest.raises(PolarFilterError, match=r"filter nmae: unknown, Polar has: name, source"):
        EventFilters.parse({"nmae": "order.paid"})
    with pytest.raises(ValidationError):
        EventFilters(nmae="order.paid")


@pytest.mark.parametrize(
    "filters",
    [
        {"name": []},
        {"name": ""},
        {"name": [1]},
        {"source": "robot"},
        {"customer_id": "not-a-uuid"},
        {"meter_id": "not-a-uuid"},
        {"metadata": {}},
        {"metadata": {"a": []}},
        {"metadata": {"a": ""}},
        {"metadata": {"a": ["b", ""]}},
        {"metadata": {"": "b"}},
        {"metadata": {"a": {"b": 1}}},
        {"query": "order"},
        {"query": "or", "organization_id": UUID},
        {"depth": 6},
        {"filter": "{"},
        {"filter": {"conjunction": "nor", "clauses": [CLAUSE]}},
        {"filter": {"clauses": []}},
        {"filter": {"clauses": [{"clauses": []}]}},
        {"filter": {"clauses": [{"property": "n", "operator": "eq", "value": 2**31}]}},
        {"filter": {"clauses": [{"property": "n", "operator": "eq", "value": 1.5}]}},
        {"filter": {"clauses": [{"property": "n", "operator": "is", "value": 1}]}},
        "name=order.paid",
        7,
        {"name": "None"},
        {"external_customer_id": ["c1", " "]},
        {"metadata": {"plan": "None"}},
    ],
)
def test_what_polar_would_answer_with_everything_or_an_error_is_refused(filters):
    with pytest.raises(PolarFilterError):
        EventFilters.parse(filters)


def test_parameters_repeat_for_or():
    filters = EventFilters(
        name=["a", "b"], source="user", metadata={"plan": ["pro", "team"], "seats": 3, "trial": True}, depth=0
    )
    assert filters.to_params() == [
        ("name", "a"),
        ("name", "b"),
        ("source", "user"),
        ("metadata[plan]", "pro"),
        ("metadata[plan]", "team"),
        ("metadata[seats]", "3"),
        ("metadata[trial]", "true"),
        ("depth", "0"),
    ]


def test_further_clauses_narrow_what_the_user_asked_for():
    asked = EventFilters.parse(
        {"filter": '{"conjunction":"or","clauses":[{"property":"a","operator":"eq","value":1}]}'}
    )
    narrowed = asked.also(FilterClause(property="name", operator="ne", value="x"))
    [(_, text)] = narrowed.to_params()
    assert json.loads(text) == {
        "conjunction": "and",
        "clauses": [
            {"conjunction": "or", "clauses": [{"property": "a", "operator": "eq", "value": 1}]},
            {"property": "name", "operator": "ne", "value": "x"},
        ],
    }


@pytest.mark.parametrize("operator", ["eq", "ne"])
def test_a_boolean_in_a_filter_is_refused_with_what_finds_it(operator):
    """Polar finds no event for eq and every event for ne; metadata compares as text."""
    told = r"""^filter filter\.clauses\.1: Polar finds (no|every) event with .*metadata=\{"KEY": "true"\}"""
    with pytest.raises(PolarFilterError, match=told):
        EventFilters.parse(
            {"filter": {"clauses": [CLAUSE, {"property": "trial", "operator": operator, "value": True}]}}
        )
    assert EventFilters.parse({"metadata": {"trial": True}}).to_params() == [("metadata[trial]", "true")]


def test_filters_survive_their_plain_form():
    filters = EventFilters.parse({"name": "a", "metadata": {"k": 1}, "filter": {"clauses": [CLAUSE]}, "query": None})
    assert EventFilters.parse(json.loads(json.dumps(filters.to_dict()))) == filters


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("event_name", "name"),
        ("nmae", "name"),
        ("customer", "customer_id"),
        ("external_customer", "external_customer_id"),
        ("customer_external_id", "external_customer_id"),
        ("sources", "source"),
        ("organisation_id", "organization_id"),
        ("meter", "meter_id"),
    ],
)
def test_a_near_miss_is_told_the_filter_that_was_meant(given, meant):
    with pytest.raises(PolarFilterError, match=rf"filter {given}: unknown, .* \(did you mean {meant}\?\)"):
        EventFilters.parse({given: "x"})


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(PolarFilterError, match=r"filter limit: unknown, Polar has: .*, depth$"):
        EventFilters.parse({"limit": 10})


@pytest.mark.parametrize("bound", ["start_timestamp", "end_timestamp", "start", "end", "timestamp"])
def test_a_bound_is_no_filter(bound):
    with pytest.raises(PolarFilterError, match=f"^filter {bound}: a window is no filter, use start= and end=$"):
        EventFilters.parse({bound: "2026-11-01T00:00:00Z"})


@pytest.mark.parametrize(
    ("clause", "said"),
    [
        (
            CLAUSE | {"opertor": "eq"},
            "filter filter.clauses.0.opertor: unknown, there are property, operator, value (did you mean operator?)",
        ),
        (
            CLAUSE | {"value": 1.5},
            "filter filter.clauses.0.value: is text, a 32-bit integer or a boolean, not float",
        ),
        ({"clauses": [CLAUSE], "conj": "or"}, "filter filter.clauses.0.conj: unknown, there are conjunction, clauses"),
    ],
)
def test_a_wrong_clause_is_told_once(clause, said):
    with pytest.raises(PolarFilterError) as refused:
        EventFilters.parse({"filter": {"clauses": [clause]}})
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "filters",
    [
        {"customer_id": "jo@polar.example"},
        {"external_customer_id": ["jo@polar.example", " "]},
        {"name": ["x"], "jo": 1},
    ],
)
def test_no_message_quotes_a_customer(filters):
    with pytest.raises(PolarFilterError) as refused:
        EventFilters.parse(filters)
    assert "polar.example" not in str(refused.value)
