"""How the events of one moment, which time does not divide, are split by their other properties. Decisions only.

A split is chosen by a sample of the events and proved by Polar's counts: its parts must add up. So it may guess, for
example that no event has a customer that the sample lacks, and costs no more than requests where it guesses wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite
from typing import Any
from urllib.parse import quote

from airflow_provider_polar.api.filters import EventFilters, FilterClause
from airflow_provider_polar.api.rows import EventRow

_MOST_PARTS = 8
_AIM = 70
"""Events that a part is to hold: a sample is no exact measure, and a part of more than a page is split again."""
_PAGE = 85
"""Events up to which a part is expected to fit into one page."""
_MOST_VALUES = 50
"""Values in one list parameter: a URL has its limits."""
MOST_CHARACTERS = 7_000
"""Characters that the values of :func:`telling` may take in a URL: servers and proxies take 8,000 at least."""
_MOST_ESCAPE = 0.06
"""How likely another event may be to have the values of :func:`telling`, too."""
_BOOLEANS = {True: "true", False: "false"}
"""Polar compares booleans as these texts; a boolean in a filter matches nothing."""
_OWN_PROPERTIES = ("name", "source", "timestamp")
"""Properties of a filter that a metadata key of the same name cannot be reached past."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a split.

    :param words: by property, what narrows it.
    :param expected: events in it, going by the sample.
    """

    filters: EventFilters
    words: Mapping[str, str]
    expected: float


@dataclass(frozen=True, slots=True)
class Split:
    """Parts that do not overlap, the likely fuller ones first where the last may be empty."""

    key: str
    parts: tuple[Part, ...]

    @property
    def cost(self) -> float:
        """Requests that it is expected to take."""
        return sum(1 if part.expected <= _PAGE else 1 + 1.2 * part.expected / _AIM for part in self.parts)

    @property
    def largest(self) -> float:
        """Events expected in the fullest part."""
        return max(part.expected for part in self.parts)


def find_splits(rows: Collection[EventRow], counted: int, filters: EventFilters) -> list[Split]:
    """Splits that divide ``counted`` events, the cheapest first; none where the sample shows no difference.

    :param rows: a sample of them.
    :param filters: the events' filters so far; every part's filters include them.
    """
    wanted = min(_MOST_PARTS, max(2, ceil(counted / _AIM)))
    splitter = _Splitter(list(rows), wanted, counted / max(1, len(rows)), filters)
    splits = [split for split in splitter.splits() if len(split.parts) > 1 and split.largest <= 0.9 * counted]
    return sorted(splits, key=lambda split: (split.cost, split.key))


def alike(row: EventRow, filters: EventFilters) -> EventFilters:
    """Filters that keep only events which look like this one."""
    clauses = []
    for key, value in {"name": row.get("name"), "source": row.get("source"), **_metadata(row)}.items():
        if isinstance(value, bool):
            value = _BOOLEANS[value]
        if isinstance(value, str) or (isinstance(value, int) and _is_polar_integer(value)):
            clauses.append(FilterClause(property=key, operator="eq", value=value))
    narrowed = filters.also(*clauses)
    customer = row.get("external_customer_id")
    if customer and filters.customer_id is None:
        narrowed = narrowed.model_copy(update={"external_customer_id": [customer]})
    return narrowed


def telling(rows: Sequence[EventRow], filters: EventFilters) -> EventFilters | None:
    """Filters that keep only events with the values of these rows.

    Under properties that tell events apart so well that hardly another event has these values; None where there are
    none, or the request would be too long."""
    given = [row.get("metadata") or {} for row in rows]
    columns = {f"metadata[{key}]": [metadata.get(key) for metadata in given] for key in given[0]}
    if filters.customer_id is None and filters.external_customer_id is None:
        columns["external_customer_id"] = [row.get("external_customer_id") for row in rows]
    metadata = dict(filters.metadata or {})
    customers = filters.external_customer_id
    escape, size = 1.0, 0
    for parameter, values in sorted(columns.items(), key=lambda column: (-len(set(map(str, column[1]))), column[0])):
        key = parameter.removeprefix("metadata[").removesuffix("]")
        if key in metadata or not all(_is_text_or_integer(value) for value in values):
            continue
        texts = sorted({str(value) for value in values})
        # With N values that come up equally often, n rows share one n * n / 2N times; another event does n / N times.
        share = 2 * (len(values) - len(texts)) / len(values)
        longer = size + sum(len(quote(parameter)) + len(quote(text)) + 2 for text in texts)
        if share >= 1 or longer > MOST_CHARACTERS:
            continue
        escape, size = escape * max(share, 1 / len(values)), longer
        if parameter == "external_customer_id":
            customers = texts
        else:
            metadata[key] = texts
        if escape <= _MOST_ESCAPE:
            return filters.model_copy(update={"metadata": metadata or None, "external_customer_id": customers})
    return None


def _is_text_or_integer(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool) and value != ""


def _metadata(row: EventRow) -> dict[str, bool | int | float | str]:
    """Metadata by path; what cannot be reached by a filter is left out."""
    flat: dict[str, bool | int | float | str] = {}
    for key, value in (row.get("metadata") or {}).items():
        inner = {f"{key}.{name}": item for name, item in value.items()} if isinstance(value, dict) else {key: value}
        flat |= {path: item for path, item in inner.items() if isinstance(item, (bool, int, float, str))}
    return {path: value for path, value in flat.items() if path and path not in _OWN_PROPERTIES}


class _Splitter:
    def __init__(self, sample: Sequence[EventRow], wanted: int, scale: float, filters: EventFilters) -> None:
        self.sample, self.wanted, self.scale, self.filters = sample, wanted, scale, filters

    def splits(self) -> Iterator[Split]:
        for property_ in ("name", "source"):
            values = [row.get(property_) for row in self.sample]
            if not all(isinstance(value, str) for value in values):
                continue
            if len(set(values)) <= _MOST_PARTS:
                yield self._by_value(property_, values)
            else:
                yield self._by_range(property_, values, _text_between)
        metadata = [_metadata(row) for row in self.sample]
        for key in sorted({key for values in metadata for key in values}):
            yield from self._by_metadata(key, [values.get(key) for values in metadata])
        # Polar joins the two customer filters by OR: a second one would widen what the first selects.
        if self.filters.customer_id is None:
            yield from self._by_customer("external_customer_id", self.filters.external_customer_id)
        if self.filters.external_customer_id is None:
            yield from self._by_customer("customer_id", self.filters.customer_id)

    def _part(self, property_: str, clauses: Sequence[FilterClause], size: int) -> Part:
        words = " and ".join(f"{clause.operator} {clause.value!r}" for clause in clauses)
        return Part(self.filters.also(*clauses), {property_: words}, size * self.scale)

    def _by_value(self, property_: str, values: Sequence[Any]) -> Split:
        """One part a value, and one for all others, which includes events without a value."""
        known = Counter(values).most_common()
        parts = [
            self._part(property_, [FilterClause(property=property_, operator="eq", value=value)], size)
            for value, size in known
        ]
        others = [FilterClause(property=property_, operator="ne", value=value) for value, _ in known]
        return Split(property_, (*parts, self._part(property_, others, len(self.sample) - len(values))))

    def _by_metadata(self, key: str, values: Sequence[bool | int | float | str | None]) -> Iterator[Split]:
        kinds = Counter(type(value) for value in values if value is not None)
        kind = kinds.most_common(1)[0][0]
        if kind is bool:
            yield self._by_value(key, [_BOOLEANS[True] for value in values if value is True])
        elif kind is str:
            # An event without the key compares as an empty text, or as 0.
            yield self._by_range(key, [value if isinstance(value, str) else "" for value in values], _text_between)
        else:
            numbers = [value if isinstance(value, (int, float)) else 0 for value in values]
            yield self._by_range(key, numbers, _integer_between)

    def _by_range(self, property_: str, values: Sequence[Any], between: Callable[[Any, Any], Any]) -> Split:
        """Ranges of about equal size, the outer ones open."""
        sizes = Counter(values)
        aim = len(values) / self.wanted
        bounds: list[Any] = []
        parts: list[int] = []
        held = 0
        for value, following in pairwise([*sorted(sizes), None]):
            held += sizes[value]
            bound = None if following is None else between(value, following)
            if bound is not None and held + sizes[following] / 2 > aim and len(parts) < self.wanted - 1:
                bounds.append(bound)
                parts.append(held)
                held = 0
        edges = pairwise([None, *bounds, None])
        return Split(
            property_,
            tuple(
                self._part(property_, list(_range(property_, low, high)), size)
                for (low, high), size in zip(edges, [*parts, held], strict=True)
            ),
        )

    def _by_customer(self, field: str, given: list[str] | None) -> Iterator[Split]:
        """Lists of customers. There is no "all others", so the sample has to show them all."""
        values = [row.get(field) for row in self.sample]
        if None in values:
            return
        sizes = Counter(values)
        if given is not None:
            sizes = Counter({value: sizes[value] for value in given})
        elif sum(size == 1 for size in sizes.values()) > 0.05 * len(values):
            return
        bins: list[list[str]] = []
        held = _AIM / self.scale
        load = 0.0
        for value, size in sorted(sizes.items()):
            if not bins or load + size > held or len(bins[-1]) == _MOST_VALUES:
                bins.append([])
                load = 0
            bins[-1].append(value)
            load += size
        yield Split(
            field,
            tuple(
                Part(
                    self.filters.model_copy(update={field: members}),
                    {field: f"in {', '.join(members)}"},
                    sum(sizes[value] for value in members) * self.scale,
                )
                for members in bins
            ),
        )


def _range(property_: str, low: Any, high: Any) -> Iterator[FilterClause]:
    if low is not None:
        yield FilterClause(property=property_, operator="gte", value=low)
    if high is not None:
        yield FilterClause(property=property_, operator="lt", value=high)


def _is_polar_integer(value: int) -> bool:
    """Whether a filter takes it: 32 bits."""
    return -(2**31) <= value < 2**31


def _integer_between(low: float, high: float) -> int | None:
    """An integer above ``low`` and not above ``high`` that Polar takes; None also for what is no finite number."""
    if not (isfinite(low) and isfinite(high)):
        return None
    bound = floor(high)
    return bound if bound > low and _is_polar_integer(bound) else None


def _text_between(low: str, high: str) -> str:
    """The shortest beginning of ``high`` that sorts after ``low``."""
    return next(high[:length] for length in range(1, len(high) + 1) if high[:length] > low)
