"""What a local Polar's meters make of the stored events, whatever lists make of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, model_validator

from airflow_provider_polar.testing.buckets import LONGEST, QUARTER, Interval, bucket, series
from airflow_provider_polar.testing.database import Database
from airflow_provider_polar.testing.errors import ServerError
from airflow_provider_polar.testing.query import Filter, FilterClause, metadata_path
from airflow_provider_polar.testing.times import to_microseconds, to_text

_SECONDS = "CAST(round(microseconds / 1000000.0) AS INTEGER)"
"""Whole seconds since 1970, rounded half up, as PostgreSQL casts a number to an integer."""
_COMPARISONS = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


Function = Literal["count", "sum", "max", "min", "avg", "unique"]


class Aggregation(BaseModel):
    func: Function
    property: Annotated[str, AfterValidator(lambda text: text.removeprefix("metadata."))] | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.property is None) != (self.func == "count"):
            raise ValueError("every function but count is of a property")
        return self


def new_meter(
    meter_filter: Mapping[str, Any] | None,
    name: str | None,
    aggregation: Mapping[str, Any] | None,
    unit: str,
    metadata: Mapping[str, Any] | None,
    archived: bool,
) -> dict[str, Any]:
    """A meter as the API gives it, but for what its organization gives it; raises ValueError."""
    takes = Filter.model_validate(meter_filter or {"conjunction": "and", "clauses": []})
    makes = Aggregation.model_validate(aggregation or {"func": "count"})
    return {
        "metadata": dict(metadata or {}),
        "modified_at": None,
        "name": name or "Events",
        "unit": unit,
        "custom_label": None,
        "custom_multiplier": None,
        "filter": takes.model_dump(mode="json"),
        "aggregation": makes.model_dump(mode="json", exclude_none=True),
        "archived_at": to_text(time.time_ns() // 1000) if archived else None,
    }


@dataclass
class _Sql:
    """A condition on `metered`, and its values, by name."""

    clauses: list[str]
    values: dict[str, Any] = field(default_factory=dict)

    def add(self, clause: str) -> None:
        self.clauses.append(f"({clause})")

    def bind(self, value: Any) -> str:
        """What stands for the value in a clause."""
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"

    def any_of(self, expression: str, values: Iterable[Any]) -> str:
        return f"{expression} IN ({', '.join(map(self.bind, values))})"

    @property
    def where(self) -> str:
        return " AND ".join(self.clauses)


class Metering:
    """One meter over the store of events. Safe to use from the server's thread and from the test's."""

    def __init__(self, database: Database, organization: str, meter: dict[str, Any]) -> None:
        self._database = database
        self._meter, self._organization = meter["id"], organization
        self._aggregation = Aggregation.model_validate(meter["aggregation"])
        self._sql = sql = _Sql([])
        sql.add(f"organization = {sql.bind(organization)}")
        sql.add(_filter(Filter.model_validate(meter["filter"]), sql))
        self._quantity = _aggregate(self._aggregation, sql)

    def only_customers(self, ids: Sequence[str], external_ids: Sequence[str]) -> None:
        """Leave out the events of all other customers."""
        by_id, by_external = (
            self._sql.any_of(column, values)
            for column, values in (("customer_id", ids), ("external_customer_id", external_ids))
        )
        self._sql.add(f"{by_id} OR {by_external}")

    def only_metadata(self, key: str, values: Sequence[str]) -> None:
        """Leave out the events whose value of a key, as text, is none of these."""
        path = self._sql.bind(metadata_path(key, nested=False))
        self._sql.add(self._sql.any_of(_text(path), values))

    def quantities(
        self, start: datetime, end: datetime, interval: Interval, zone: ZoneInfo, by_customer: Function | None
    ) -> dict[str, Any]:
        """The quantity of every bucket, and the total, which for two functions is of all time."""
        moments = series(start, end, interval, zone)
        margin = timedelta(days=LONGEST[interval], hours=2)
        sql, aggregation = self._sql, self._aggregation
        first, last = (sql.bind(to_microseconds(at)) for at in (moments[0] - margin, moments[-1] + margin))
        key = f"bucket(microseconds / {QUARTER}, {sql.bind(interval.value)}, {sql.bind(zone.key)})"
        selection = f"FROM metered WHERE {sql.where} AND microseconds BETWEEN {first} AND {last} GROUP BY"
        if by_customer is None:
            statement = f"SELECT {key} AS key, {self._quantity} {selection} key"
        else:
            # An event shows one of a customer's two ids only: who comes under both is two customers here.
            who = "coalesce(customer_id, external_customer_id)"
            outer = "count(DISTINCT quantity)" if by_customer == "unique" else f"{by_customer}(quantity)"
            inner = f"SELECT {key} AS key, {self._quantity} AS quantity {selection} key, {who}"
            statement = f"SELECT key, {outer} FROM ({inner}) GROUP BY key"
        found = dict(self._read(statement))
        given = [found.get(bucket(to_microseconds(moment) // QUARTER, interval.value, zone.key)) for moment in moments]
        if aggregation.func in ("avg", "unique"):
            [[total]] = self._read(f"SELECT {self._quantity} FROM metered WHERE {sql.where}")
        else:
            known = [quantity for quantity in given if quantity is not None]
            combine = {"max": max, "min": min}.get(aggregation.func, sum)
            total = combine(known) if known else 0
        return {
            "quantities": [
                {"timestamp": to_text(to_microseconds(moment)), "quantity": float(quantity or 0)}
                for moment, quantity in zip(moments, given, strict=True)
            ],
            "total": float(total or 0),
        }

    def consumed(self) -> dict[str, tuple[float, int]]:
        """By customer: units consumed and units credited since the last reset, by the order of arrival."""
        sql = self._sql
        meter, organization = sql.bind(self._meter), sql.bind(self._organization)
        common = f"""
            WITH who AS (
                SELECT id, 'id ' || id AS key FROM customers WHERE organization = {organization} UNION ALL
                SELECT id, 'external ' || external_id FROM customers
                WHERE organization = {organization} AND external_id IS NOT NULL
            ), own AS (
                SELECT customer_id, name, arrival, json_extract(metadata, '$.units') AS units FROM metered
                WHERE organization = {organization} AND source = 'system' AND name IN ('meter.reset', 'meter.credited')
                AND json_extract(metadata, '$.meter_id') = {meter}
            ), resets AS (
                SELECT customer_id AS id, max(arrival) AS reset FROM own WHERE name = 'meter.reset' GROUP BY customer_id
            )"""
        used = self._read(
            f"{common} SELECT who.id, {self._quantity} FROM metered"
            " JOIN who ON key = coalesce('id ' || customer_id, 'external ' || external_customer_id)"
            f" LEFT JOIN resets USING (id) WHERE source = 'user' AND arrival > coalesce(reset, 0) AND {sql.where}"
            " GROUP BY who.id"
        )
        given = self._read(
            f"{common} SELECT customer_id, units FROM own LEFT JOIN resets ON id = customer_id"
            " WHERE name = 'meter.credited' AND arrival > coalesce(reset, 0) ORDER BY arrival"
        )
        credited: dict[str, list[int]] = {}
        for customer, units in given:
            credited.setdefault(customer, []).append(units)
        consumed = dict(used)
        return {
            customer: (float(consumed.get(customer) or 0), _never_below_zero(credited.get(customer, ())))
            for customer in {**consumed, **credited}
        }

    def _read(self, statement: str) -> list[tuple[Any, ...]]:
        with self._database.lock:
            return self._database.connection.execute(statement, self._sql.values).fetchall()


def _never_below_zero(units: Iterable[int]) -> int:
    *_, balance = accumulate(units, lambda before, more: max(0, before + more), initial=0)
    return balance


def _filter(given: Filter | FilterClause, sql: _Sql) -> str:
    """The events that a meter's filter takes; NULL, where an event lacks the property, is no event."""
    if isinstance(given, FilterClause):
        return _own(given, sql) if given.property in ("name", "source", "timestamp") else _of_metadata(given, sql)
    joined = f" {given.conjunction.upper()} ".join(_filter(clause, sql) for clause in given.clauses)
    return f"({joined or '1'})"


def _own(clause: FilterClause, sql: _Sql) -> str:
    """A clause about what every event has."""
    if not isinstance(clause.value, int if clause.property == "timestamp" else str):
        return "0"
    left = _SECONDS if clause.property == "timestamp" else clause.property
    if clause.operator in ("like", "not_like"):
        return _contains(f"CAST({left} AS TEXT)", clause, sql)
    if isinstance(clause.value, bool):
        raise ServerError("PostgreSQL compares no number with a boolean")
    return f"{left} {_COMPARISONS[clause.operator]} {sql.bind(clause.value)}"


def _of_metadata(clause: FilterClause, sql: _Sql) -> str:
    """A clause about a property of the metadata, by the type that the property has in an event."""
    value, path = clause.value, sql.bind(metadata_path(clause.property))
    if clause.operator in ("like", "not_like"):
        return _contains(_text(path), clause, sql)
    if isinstance(value, bool) and clause.operator not in ("eq", "ne"):
        raise ServerError("Polar's SQL has no order of booleans")
    left, compare = f"json_extract(metadata, {path})", _COMPARISONS[clause.operator]
    number = f"CAST({left} AS REAL) {compare} {sql.bind(int(value))}" if isinstance(value, int) else "0"
    boolean = f"{left} {compare} {sql.bind(value)}" if isinstance(value, bool) else "0"
    return (
        f"CASE json_type(metadata, {path}) WHEN 'text' THEN {left} {compare} {sql.bind(_as_text(value))}"
        f" WHEN 'integer' THEN {number} WHEN 'real' THEN {number} WHEN 'true' THEN {boolean}"
        f" WHEN 'false' THEN {boolean} END"
    )


def _contains(text: str, clause: FilterClause, sql: _Sql) -> str:
    return f"instr({text}, {sql.bind(_as_text(clause.value))}) {'>' if clause.operator == 'like' else '='} 0"


def _as_text(value: str | int | bool) -> str:
    return ("t" if value else "f") if isinstance(value, bool) else str(value)


def _text(path: str) -> str:
    """A value of the metadata as text, NULL for none; numbers as they are written there."""
    return (
        f"CASE json_type(metadata, {path}) WHEN 'text' THEN json_extract(metadata, {path})"
        f" WHEN 'null' THEN NULL ELSE metadata -> {path} END"
    )


def _aggregate(aggregation: Aggregation, sql: _Sql) -> str:
    """The quantity of a group of events, of which those are left out that the function does not take."""
    name = aggregation.property or ""
    if aggregation.func == "count":
        return "count(*)"
    path = sql.bind(metadata_path(name))
    if aggregation.func == "unique":
        # A number counts once however it is written, and a text stays another value than the number that it shows.
        value = f"json_extract(metadata, {path})"
        kind = f"json_type(metadata, {path})"
        return f"count(DISTINCT CASE WHEN {kind} IN ('integer', 'real') THEN {value} ELSE metadata -> {path} END)"
    if name == "timestamp":
        return f"{aggregation.func}(CAST({_SECONDS} AS REAL))"
    sql.add("0" if name in ("name", "source") else f"json_type(metadata, {path}) IN ('integer', 'real')")
    return f"{aggregation.func}(CAST(json_extract(metadata, {path}) AS REAL))"
