"""A row becomes an event with exactly its values, or is refused in words: whatever the values are, and at once."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.requests import encode_event
from airflow_provider_polar.engine.ingesting.mapping import EventMapping
from airflow_provider_polar.engine.ingesting.validation import EventValidator
from airflow_provider_polar.exceptions import EventProblem

OK = {"name": "a", "external_customer_id": "c"}
HUGE = ("1E+9999999", "-1E+9999999", "1E-9999999", "1" * 400, "1E+999999999999", "0E+9999999")
UNREADABLE = 10**5000  # Python writes no integer of more than 4,300 digits.


class Tier(StrEnum):
    GOLD = "gold"


class Level(IntEnum):
    HIGH = 3


def check(row: Any) -> tuple[dict[str, Any], list[EventProblem]]:
    return EventValidator()(row)


def told(value: Any, field: str = "v") -> str:
    """The one problem of a metadata value, or what is sent for it."""
    event, problems = check({**OK, "metadata": {field: value}})
    return problems[0].message if problems else f"sent {event['metadata'][field]!r}"


def kind_of(value: Any) -> str:
    """A test's id; not every number here has a text."""
    return value if isinstance(value, str) and len(value) < 40 else type(value).__name__


def milliseconds(work: Callable[[], Any]) -> float:
    def once() -> float:
        begin = time.process_time()
        work()
        return (time.process_time() - begin) * 1000

    return min(once() for _ in range(5))


@pytest.mark.parametrize("number", [*map(Decimal, HUGE), Decimal("1." + "1" * 10_000), UNREADABLE, *HUGE], ids=kind_of)
def test_no_number_takes_long_wherever_it_stands(number: Any) -> None:
    llm = {"vendor": "v", "model": "m", "input_tokens": number, "output_tokens": 1, "total_tokens": 1}
    rows: list[dict[str, Any]] = [
        {**OK, "metadata": {"v": number}},
        {**OK, "metadata": {"_cost": {"amount": number, "currency": "usd"}}},
        {**OK, "metadata": {"_llm": llm}},
        {**OK, "timestamp": number},
        {**OK, "metadata": {number: 1}},
        {number: 1},
        {"name": number, "customer_id": number, "external_id": number, "parent_id": number},
    ]
    for row in rows:
        assert milliseconds(lambda row=row: check(row)) < 5
    for spec in ({}, *({"type": kind} for kind in ("int", "float", "bool", "str"))):
        mapping = EventMapping({"name": "v", "external_customer_id": "v", "metadata": {"v": {"column": "v", **spec}}})
        assert milliseconds(lambda mapping=mapping: mapping({"v": number})) < 5
    for layout in ("unix", "unix_ms"):
        moment = {"column": "v", "format": layout}
        mapping = EventMapping({"name": "v", "external_customer_id": "v", "timestamp": moment})
        assert milliseconds(lambda mapping=mapping: mapping({"v": number})) < 5


@pytest.mark.parametrize(
    ("amount", "sent"),
    [
        ("0E+9999999", "0"),
        ("99999.999999999999", "99999.999999999999"),
        ("0.000000000001", "0.000000000001"),
        (Decimal("1.10"), "1.1"),
        ("1E+2", "100"),
        (-0.5, -0.5),
        (99_999, 99_999),
    ],
)
def test_a_cost_is_sent_as_it_is(amount: Any, sent: Any) -> None:
    event, problems = check({**OK, "metadata": {"_cost": {"amount": amount, "currency": "usd"}}})
    assert problems == []
    assert event["metadata"]["_cost"] == {"amount": sent, "currency": "usd"}


@pytest.mark.parametrize(
    "amount", ["1." + "0" * 30 + "1", Decimal("1." + "0" * 30 + "1"), "1" * 600, 10**5000, 1e300], ids=kind_of
)
def test_a_cost_with_more_digits_than_polar_keeps_is_refused(amount: Any) -> None:
    _, problems = check({**OK, "metadata": {"_cost": {"amount": amount, "currency": "usd"}}})
    assert [problem.field for problem in problems] == ["metadata._cost.amount"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.1"), "sent 0.1"),
        (Decimal("1.500000000000000000"), "sent 1.5"),
        (Decimal("123456789012345678901234567890"), "sent 123456789012345678901234567890"),
        (Decimal("1E+300"), f"sent {10**300}"),
        (Decimal("-0"), "sent 0"),
        (Decimal("1.00000000000000000001"), "has more digits than a number of Polar keeps"),
        (Decimal(1) / Decimal(3), "has more digits than a number of Polar keeps"),
        (Decimal("1E-9999999"), "has more digits than a number of Polar keeps"),
        (Decimal("1E+309"), "is infinite or too large"),
        (Decimal("Infinity"), "is infinite or too large"),
        (Decimal("sNaN"), "is NaN"),
        (UNREADABLE, "is infinite or too large"),
        (Tier.GOLD, "sent 'gold'"),
        (Level.HIGH, "sent 3"),
        (datetime.min.replace(tzinfo=UTC) - timedelta(0), "sent '0001-01-01T00:00:00Z'"),
        (datetime.fromisoformat("0001-01-01T00:00:00+10:00"), "is outside the years 1 to 9999"),
        (timedelta(1), "is a timedelta"),
        (b"bytes", "is a bytes"),
    ],
    ids=kind_of,
)
def test_a_value_is_sent_exactly_or_refused(value: Any, expected: str) -> None:
    assert told(value).startswith(expected)


def test_a_decimal_does_not_depend_on_the_precision_in_force() -> None:
    with localcontext() as context:
        context.prec = 3
        assert told(Decimal("1.23456")) == "sent 1.23456"
        event, _ = check({**OK, "metadata": {"_cost": {"amount": "1.23456", "currency": "usd"}}})
    assert event["metadata"]["_cost"]["amount"] == "1.23456"


def test_numpy_scalars_are_what_they_stand_for_and_all_else_of_numpy_is_refused() -> None:
    numpy = pytest.importorskip("numpy")
    for value, expected in [
        (numpy.int64(2**62), f"sent {2**62}"),
        (numpy.uint8(7), "sent 7"),
        (numpy.float64(0.1), "sent 0.1"),
        (numpy.float32(0.5), "sent 0.5"),
        (numpy.bool_(True), "sent True"),
        (numpy.str_("text"), "sent 'text'"),
        (numpy.float64("nan"), "is NaN"),
        (numpy.float32("inf"), "is infinite or too large"),
        (numpy.longdouble(1), "is a longdouble"),
        (numpy.complex128(1), "is a complex128"),
        (numpy.bytes_(b"x"), "is a bytes_"),
        (numpy.array([1, 2]), "is an array"),
        (numpy.array([1]), "is an array"),
        (numpy.array(1), "is an array"),
        (numpy.ma.masked, "is a MaskedConstant"),
        (numpy.datetime64("2026-01-01T00:00:00", "ns"), "is a datetime64"),
        (numpy.datetime64("2026-01-01"), "is a datetime64"),
        (numpy.datetime64("NaT"), "is null"),
        (numpy.timedelta64(5, "ns"), "is a timedelta64"),
    ]:
        assert told(value).startswith(expected), repr(value)
        for sent in check({**OK, "metadata": {"v": value}})[0].get("metadata", {}).values():
            assert type(sent) in (int, float, bool, str, type(None))
    event, problems = check(
        {
            "name": numpy.str_("a"),
            "external_customer_id": numpy.str_("c"),
            "timestamp": numpy.str_("2026-01-01T00:00:00Z"),
            "metadata": {
                numpy.str_("k"): 1,
                "_llm": {
                    "vendor": numpy.str_("v"),
                    "model": "m",
                    **dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), numpy.int32(5)),
                },
                "_cost": {"amount": numpy.float64(1.5), "currency": numpy.str_("usd")},
            },
        }
    )
    assert problems == []
    assert json.loads(encode_event(event))["metadata"]["_llm"]["total_tokens"] == 5
    for field in ("name", "external_customer_id", "external_id", "timestamp", "metadata", "parent_id", "member_id"):
        for value in (numpy.array(["a", "b"]), numpy.datetime64("2026-01-01", "ns"), numpy.int64(5)):
            assert field in {problem.field for problem in check({**OK, field: value})[1]}
    assert check(numpy.array([1, 2]))[1] == [
        EventProblem("", "is an array; an event is an object with a name and a customer")
    ]


def test_pandas_values_are_what_they_stand_for() -> None:
    pandas = pytest.importorskip("pandas")
    moment = pandas.Timestamp("2026-01-01T01:00:00.123456+01:00")
    for value, expected in [
        (pandas.NA, "is null"),
        (pandas.NaT, "is null"),
        (moment, "sent '2026-01-01T00:00:00.123456Z'"),
        (pandas.Timestamp("2026-01-01"), "is a datetime without a time zone"),
        (pandas.Timestamp("2026-01-01T00:00:00.123456789Z"), "is a moment finer than a microsecond"),
        (pandas.Timedelta(1), "is a Timedelta"),
        (pandas.Series([1]), "is a Series"),
        (pandas.Interval(0, 1), "is a Interval"),
    ]:
        assert told(value).startswith(expected), repr(value)
    for missing in (pandas.NA, pandas.NaT):
        row = {**OK, "external_id": missing, "parent_id": missing, "customer_id": missing, "member_id": missing}
        assert check(row) == (OK, [])
        assert check({**OK, "timestamp": missing})[1][0].message.startswith("is null")
        assert check({**OK, "name": missing})[1] == [EventProblem("name", "is missing")]
    event, problems = check({**OK, "timestamp": pandas.Timestamp("2026-01-01T00:00:00.123456789Z")})
    assert (event["timestamp"], problems) == ("2026-01-01T00:00:00.123456Z", [])
    frame = pandas.DataFrame([{**OK, "n": 1, "at": moment}, {**OK, "n": None, "at": None}]).convert_dtypes()
    mapping = EventMapping(
        {
            "name": "name",
            "external_customer_id": "external_customer_id",
            "timestamp": {"column": "at", "optional": True},
            "metadata": {"n": {"column": "n", "optional": True, "type": "int"}},
        }
    )
    mapped = [mapping(row) for row in frame.to_dict("records")]
    assert [check(event)[0] for event, _ in mapped] == [
        {**OK, "timestamp": "2026-01-01T00:00:00.123456Z", "metadata": {"n": 1}},
        OK,
    ]


numbers = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.decimals()
    | st.builds(lambda digits, exponent: Decimal(f"{digits}E{exponent}"), st.integers(), st.integers(-(10**6), 10**6))
)
texts = st.text(max_size=8) | st.text(st.characters(), max_size=4) | st.sampled_from(["x" * 501, "\0", "\ud800"])
moments = st.datetimes() | st.datetimes(timezones=st.timezones()) | st.dates() | st.times() | st.timedeltas()
scalars = (
    st.none() | st.booleans() | numbers | texts | moments | st.uuids() | st.binary(max_size=3) | st.complex_numbers()
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner)
        | st.dictionaries(texts | st.sampled_from(["amount", "currency", "vendor"]), inner, max_size=3)
    ),
    max_leaves=3,
)
costs = st.fixed_dictionaries({"amount": numbers | numbers.map(str), "currency": st.just("usd")})
tokens = numbers | anything
llms = st.fixed_dictionaries(
    {"vendor": texts, "model": texts, "input_tokens": tokens, "output_tokens": st.just(1), "total_tokens": st.just(1)},
    optional={"prompt": anything, "cached_input_tokens": tokens},
)
keys = st.text(min_size=1, max_size=41) | st.sampled_from(["_cost", "_llm"]) | st.integers() | st.booleans()
fuzzed = st.fixed_dictionaries(
    {"name": texts, "external_customer_id": texts},
    optional={
        "timestamp": moments | moments.map(str) | anything,
        "metadata": st.dictionaries(keys, anything | costs | llms, max_size=3) | anything,
        "external_id": anything,
        "parent_id": anything,
        "customer_id": anything,
        "member_id": anything,
        "organization_id": anything,
        "nane": anything,
    },
)


def same(sent: Any, given: Any) -> bool:
    """Whether JSON holds the value that was given: a number of the same value, the same text, the same moment."""
    if isinstance(given, bool) or isinstance(sent, bool):
        return sent is given
    if isinstance(given, Decimal):
        return Decimal(repr(sent) if isinstance(sent, float) else sent) == given
    if isinstance(given, (int, float)):
        return not isinstance(sent, str) and bool(sent == given)
    if isinstance(given, datetime):
        return bool(datetime.fromisoformat(sent) == given)
    if isinstance(given, (date, UUID)):
        return bool(sent == str(given))
    if isinstance(given, dict):
        kept = {key: value for key, value in given.items() if value is not None}
        if "amount" in kept:
            return Decimal(str(sent["amount"])) == Decimal(str(kept["amount"]))
        return sent.keys() == kept.keys() and all(same(sent[key], kept[key]) for key in kept)
    return bool(sent == given)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(row=fuzzed | anything)
@example(row={"name": "a", "external_customer_id": "c", "metadata": {"v": -0.0}})
def test_any_row_is_an_event_of_exactly_its_values_or_refused(row: Any) -> None:
    event, problems = check(row)
    assert all(isinstance(one.field, str) and isinstance(one.message, str) for one in problems)
    if problems:
        return
    sent = json.loads(encode_event(event))
    assert sent == event
    given_fields = {field: value for field, value in row.items() if value is not None}
    metadata = given_fields.pop("metadata", None)
    assert {field for field in sent if field != "metadata"} == given_fields.keys()
    for field, value in given_fields.items():
        if field == "timestamp":
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
            assert datetime.fromisoformat(sent[field]) == moment
        else:
            assert sent[field] == str(value)
    for key, value in (metadata or {}).items():
        assert same(sent["metadata"][key], value), key


cells = anything | st.sampled_from(
    ["", "1_000", "nan", "1e999", "2026-11-01T01:30", "0001-01-01T00:00", "9999-12-31T23:59"]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(value=cells, kind=st.sampled_from(["str", "int", "float", "bool", "timestamp"]))
@example(value="0001-01-01T00:00", kind="timestamp")
@example(value="9999-12-31T23:59", kind="timestamp")
@example(value=UNREADABLE, kind="str")
@example(value=UNREADABLE, kind="bool")
@example(value=Decimal("sNaN"), kind="bool")
def test_a_mapping_of_any_value_gives_a_value_or_a_problem(value: Any, kind: str) -> None:
    specs: list[dict[str, Any]] = [{"column": "v", "type": kind}]
    if kind == "timestamp":
        zones: list[dict[str, Any]] = [{"timezone": zone} for zone in ("America/New_York", "Asia/Tokyo", "UTC")]
        layouts: list[dict[str, Any]] = [{}, {"format": "unix"}, {"format": "unix_ms"}, {"format": "%Y"}]
        specs = [{**specs[0], **zone, **layout} for zone in zones for layout in layouts]
    for spec in specs:
        mapping = EventMapping(
            {
                "name": "v",
                "external_customer_id": {"template": "c-{v}"},
                "external_id": "v",
                "metadata": {"v": spec, "w": "v", "x": {"template": "{v}"}},
            }
        )
        event, problems = mapping({"v": value})
        check(event)
        assert all(isinstance(problem.message, str) for problem in problems)


@pytest.mark.parametrize("value", [math.nan, math.inf, Decimal("NaN"), float("-inf")])
def test_a_template_makes_no_id_of_a_number_that_is_none(value: Any) -> None:
    mapping = EventMapping(
        {"name": {"const": "a"}, "external_customer_id": "c", "external_id": {"template": "{c}-{v}"}}
    )
    assert mapping({"c": "x", "v": value})[1] == [EventProblem("external_id", "column 'v' is not a finite number")]


def test_underscores_are_no_digits_of_a_number() -> None:
    mapping = EventMapping(
        {"name": {"const": "a"}, "external_customer_id": "c", "metadata": {"v": {"column": "v", "type": "float"}}}
    )
    assert mapping({"c": "x", "v": "1_000"})[1] == [EventProblem("metadata.v", "is not a number")]
