"""Identities and payloads have, byte by byte, what the plain JSON encoder makes of an event."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_polar.api.requests import encode_event
from airflow_provider_polar.engine.ingesting import identity
from airflow_provider_polar.engine.ingesting.identity import Conflict, Identities, canonical, derive, run_scope
from airflow_provider_polar.engine.ingesting.journal import temporary_database
from airflow_provider_polar.engine.ingesting.validation import EventValidator

RUN = run_scope("dag", "task", "run", -1)
OK = {"name": "a", "external_customer_id": "c"}


def reference(event: Mapping[str, Any]) -> bytes:
    """The canonical form as it was first published; identities at Polar depend on it for ever."""
    content = {field: value for field, value in event.items() if field != "external_id"}
    if metadata := content.get("metadata"):
        content["metadata"] = {
            key: int(value) if isinstance(value, float) and value.is_integer() else value
            for key, value in metadata.items()
        }
        if cost := metadata.get("_cost"):
            amount = format(Decimal(str(cost["amount"])).normalize() + 0, "f")
            content["metadata"]["_cost"] = {**cost, "amount": amount}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def reference_id(scope: str, content: bytes, occurrence: int) -> str:
    digest = hashlib.sha256()
    for part in (scope.encode(), content, str(occurrence).encode()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return "airflow-v1-" + digest.hexdigest()[:40]


def bits(pattern: int) -> float:
    return float(struct.unpack("<d", pattern.to_bytes(8, "little"))[0])


floats = (
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(0, 2**64 - 1).map(bits).filter(math.isfinite)
    | st.floats(1e-6, 1e-2)
    | st.floats(1e14, 1e18)
    | st.integers(-(10**17), 10**17).map(lambda n: n / 10**6)
    | st.sampled_from([0.0, -0.0, 1e-4, 9.999999999999999e-05, 1e16, 9999999999999998.0, 5e-324, 1e300, 0.1 + 0.2])
)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
texts |= st.text(st.sampled_from('"\\/\x01\x1f\x7f\x80é\u2028😀 a<&'), min_size=1, max_size=6)
integers = st.integers() | st.integers(-(2**65), 2**65) | st.integers(-(10**300), 10**300)
values = texts | st.booleans() | integers | floats
keys = texts.filter(lambda key: key not in ("_cost", "_llm"))
amounts = st.integers(-99_999, 99_999) | st.floats(-9e4, 9e4).map(lambda n: round(n, 6)) | st.decimals(-9, 9, places=5)
costs = st.fixed_dictionaries({"amount": amounts | amounts.map(str), "currency": st.just("usd")})
counts = st.integers(0, 2**70)
llms = st.fixed_dictionaries(
    {"model": texts, "vendor": texts, "output_tokens": counts, "input_tokens": counts, "total_tokens": counts},
    optional={"prompt": texts, "response": texts, "cached_input_tokens": counts},
)
metadata = st.builds(
    lambda plain, structured, first: {**structured, **plain} if first else {**plain, **structured},
    st.dictionaries(keys, values, max_size=5),
    st.fixed_dictionaries({}, optional={"_cost": costs, "_llm": llms}),
    st.booleans(),
)
rows = st.fixed_dictionaries(
    {"metadata": metadata, "name": texts, "external_customer_id": texts},
    optional={
        "timestamp": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T01:00:00.5+01:00"]),
        "external_id": texts,
        "parent_id": texts,
        "external_member_id": texts,
    },
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(row=rows)
@example(row={**OK, "metadata": {"é": 1, "z": 2, "\U0001f600": 3, "\uffff": 4, "\x7f": 5}})
def test_the_bytes_are_those_of_the_plain_encoder(row: dict[str, Any]) -> None:
    event, problems = EventValidator()(row)
    if problems:
        return
    assert canonical(event) == reference(event)
    assert encode_event(event) == json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
    with closing(temporary_database()) as database:
        known = Identities(RUN, database)
        explicit = event.get("external_id")
        expected = [explicit, None] if explicit else [reference_id(RUN, reference(event), n) for n in range(2)]
        assert [known.identify(event, number) for number in (1, 2)] == expected
    assert derive(RUN, reference(event), 7) == reference_id(RUN, reference(event), 7)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, [math.nan], {1: 2}, "\ud800", b"bytes", Decimal(1), {"deep": {"er": {"a": math.nan}}}]
)
def test_payloads_that_were_refused_are_refused_and_written_the_same_where_not(value: Any) -> None:
    event = {**OK, "metadata": {"v": value}}
    try:
        expected = json.dumps(event, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as refused:
        with pytest.raises(type(refused)):
            encode_event(event)
    else:
        assert encode_event(event) == expected


def identified(*rows: dict[str, Any]) -> list[Any]:
    with closing(temporary_database()) as database:
        known = Identities(RUN, database)
        return [known.identify(row, number) for number, row in enumerate(rows, 1)]


DERIVED = [reference_id(RUN, reference(OK), occurrence) for occurrence in range(3)]
OTHER = {**OK, "name": "b"}


def test_an_explicit_id_that_is_derived_for_other_content_is_a_conflict_in_either_order() -> None:
    for external_id, repeats in ((DERIVED[0], 1), (DERIVED[1], 2)):
        explicit = {**OTHER, "external_id": external_id}
        assert identified(*[OK] * repeats, explicit)[-1] == Conflict(repeats)
        assert identified(explicit, *[OK] * repeats)[-1] == Conflict(1)


def test_an_explicit_id_that_is_derived_for_the_same_content_is_one_event_in_either_order() -> None:
    for external_id in DERIVED[:2]:
        explicit = {**OK, "external_id": external_id}
        assert sorted(filter(None, identified(OK, OK, explicit))) == sorted(DERIVED[:2])
        assert sorted(filter(None, identified(explicit, OK, OK))) == sorted(DERIVED[:2])


@pytest.mark.parametrize("external_id", [DERIVED[0].upper(), DERIVED[0] + " ", "airflow-v1-", "airflow-v1-é", "x"])
def test_an_explicit_id_that_only_looks_like_a_derived_one_is_kept(external_id: str) -> None:
    assert identified(OK, {**OTHER, "external_id": external_id}) == [DERIVED[0], external_id]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, "x", "y", *DERIVED])), max_size=25))
@example([(0, None)] * 4)
def test_what_is_kept_on_disk_is_known_as_well_as_what_is_kept_in_memory(pairs: list[tuple[int, str | None]]) -> None:
    rows = [{**OK, "name": "abcd"[name], "external_id": explicit} for name, explicit in pairs]
    rows = [{field: value for field, value in row.items() if value is not None} for row in rows]
    in_memory = identified(*rows)
    for most in (0, 1, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(identity, "_KEPT_IN_MEMORY", most)
            assert identified(*rows) == in_memory
