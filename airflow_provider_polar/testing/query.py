"""What a list request says: its parameters, checked as Polar checks them, and their translation to SQL."""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import itemgetter
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import UUID4, AfterValidator, AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from airflow_provider_polar.testing.analytics import Selection
from airflow_provider_polar.testing.directory import Directory
from airflow_provider_polar.testing.errors import BrokenAnalytics, Invalid
from airflow_provider_polar.testing.store import Store
from airflow_provider_polar.testing.times import to_microseconds

MAX_LIMIT = 100
_ID = TypeAdapter(UUID4)


class EventSource(StrEnum):
    system = "system"
    user = "user"


class EventSort(StrEnum):
    timestamp = "timestamp"
    timestamp_descending = "-timestamp"


class NamesSort(StrEnum):
    name = "name"
    name_descending = "-name"
    occurrences = "occurrences"
    occurrences_descending = "-occurrences"
    first_seen = "first_seen"
    first_seen_descending = "-first_seen"
    last_seen = "last_seen"
    last_seen_descending = "-last_seen"


class FilterClause(BaseModel):
    property: Annotated[str, AfterValidator(lambda text: text.removeprefix("metadata."))]
    operator: Literal["eq", "ne", "gt", "gte", "lt", "lte", "like", "not_like"]
    value: str | Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] | bool


class Filter(BaseModel):
    conjunction: Literal["and", "or"]
    clauses: list[FilterClause | Filter]


class Page(BaseModel):
    page: int = Field(1, gt=0)
    limit: int = Field(10, gt=0)
    organization_id: UUID4 | Sequence[UUID4] | None = None

    @property
    def page_size(self) -> int:
        return min(self.limit, MAX_LIMIT)

    def covers(self, organization: str) -> bool:
        """Whether the organization is meant."""
        return self.organization_id is None or organization in texts(self.organization_id)

    def of(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The page of these items."""
        first = (self.page - 1) * self.page_size
        return listing(items[first : first + self.page_size], len(items), self.page_size)


def listing(items: Sequence[dict[str, Any]], total: int, limit: int) -> dict[str, Any]:
    """A page as Polar writes it."""
    return {"items": items, "pagination": {"total_count": total, "max_page": math.ceil(total / limit)}}


class _EventsPage(Page):
    customer_id: UUID4 | Sequence[UUID4] | None = None
    external_customer_id: str | Sequence[str] | None = None
    source: EventSource | Sequence[EventSource] | None = None
    query: str | None = None


class ListQuery(_EventsPage):
    """`GET /v1/events/`. Unknown parameters are ignored, as Polar ignores them."""

    sorting: list[EventSort] = [EventSort.timestamp_descending]
    filter: str | None = None
    start_timestamp: AwareDatetime | None = None
    end_timestamp: AwareDatetime | None = None
    meter_id: UUID4 | None = None
    name: str | Sequence[str] | None = None
    parent_id: UUID4 | None = None
    depth: int | None = Field(None, ge=0, le=5)


class NamesQuery(_EventsPage):
    """`GET /v1/events/names`."""

    sorting: list[NamesSort] = [NamesSort.last_seen_descending]


_METADATA = re.compile(r"metadata\[([^\]]+)\]")


Query = TypeVar("Query", bound=BaseModel)


def parse(model: type[Query], parameters: list[tuple[str, str]]) -> Query:
    """The checked parameters of a request; raises Invalid as Polar words it."""
    values: dict[str, Any] = {}
    for key, value in parameters:
        if key not in model.model_fields:
            continue
        if _repeats(model.model_fields[key].annotation):
            values.setdefault(key, []).append(value)
        else:
            values[key] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Invalid.from_pydantic(error, "query") from error


def ordered(
    items: list[dict[str, Any]],
    sorting: Sequence[str],
    columns: Mapping[str, Callable[[dict[str, Any]], Any]] | None = None,
) -> list[dict[str, Any]]:
    """The items by the criteria of `sorting`, each the name of a field or of a column, descending after a minus."""
    for criterion in reversed(sorting):
        name = criterion.removeprefix("-")
        items = sorted(items, key=(columns or {}).get(name, itemgetter(name)), reverse=criterion.startswith("-"))
    return items


def _repeats(annotation: Any) -> bool:
    """Whether a parameter may come several times."""
    return any(get_origin(kind) in (list, Sequence) for kind in (annotation, *get_args(annotation)))


def metadata_parameters(parameters: list[tuple[str, str]]) -> dict[str, list[str]]:
    """The values by key of `metadata[key]=value`."""
    metadata: dict[str, list[str]] = {}
    for key, value in parameters:
        if match := _METADATA.fullmatch(key):
            metadata.setdefault(match[1], []).append(value)
    return metadata


def checked_id(text: str) -> str:
    """The id in a path; raises Invalid."""
    try:
        return str(_ID.validate_python(text))
    except ValidationError as error:
        raise Invalid.from_pydantic(error, "path", "id") from error


def select_names(store: Store, organization: str, query: NamesQuery) -> Selection:
    """What `GET /v1/events/names` counts."""
    where = _Where(organization)
    where.common(query, store.directory)
    if query.query is not None:
        where.add("lower(name) LIKE '%' || lower(?) || '%' ESCAPE '\\'", _escape_like(query.query))
    return where.selection()


def select_events(store: Store, organization: str, query: ListQuery, parameters: list[tuple[str, str]]) -> Selection:
    """What `GET /v1/events/` counts, without its bounds of time; raises Invalid."""
    where = _Where(organization)
    where.common(query, store.directory)
    where.any_of("name", query.name)
    for key, values in metadata_parameters(parameters).items():
        text, path = _metadata_text(key)
        where.add(f"{text} IN ({_marks(values)})", *path, *values)
    if query.filter is not None:
        _apply_filter(store, organization, where, query.filter)
    if query.query is not None:
        _apply_query(store, organization, where, query.query, query.organization_id is not None)
    if query.meter_id is not None:
        meter = store.directory.meter(organization, str(query.meter_id))
        if meter is None:
            error = {"type": "meter_id", "loc": ["query", "meter_id"], "msg": "Meter not found."}
            raise Invalid([{**error, "input": str(query.meter_id)}], "PolarRequestValidationError")
        _apply_filter(store, organization, where, json.dumps(meter["filter"]))
    _apply_tree(where, organization, query)
    return where.selection()


def milliseconds(moment: Any, bounds: str) -> int | None:
    """A bound as the analytics store compares it: truncated to whole milliseconds, or to whole seconds."""
    if moment is None:
        return None
    cut = to_microseconds(moment) // 1000
    return cut // 1000 * 1000 if bounds == "second" else cut


class _Where:
    def __init__(self, organization: str) -> None:
        self._clauses = ["organization = ?", "visible = 1"]
        self._parameters: list[Any] = [organization]
        self._organization = organization

    def add(self, clause: str, *parameters: Any) -> None:
        self._clauses.append(clause)
        self._parameters.extend(parameters)

    def any_of(self, column: str, values: Any) -> None:
        if values is not None:
            wanted = texts(values)
            self.add(f"{column} IN ({_marks(wanted)})", *wanted)

    def common(self, query: _EventsPage, directory: Directory) -> None:
        if not query.covers(self._organization):
            self.add("0")
        self.any_of("source", query.source)
        by_id, by_external = texts(query.customer_id), texts(query.external_customer_id)
        if by_id or by_external:
            # A customer is meant by either id, whichever of the two its events were ingested under.
            by_id, by_external = (
                by_id + directory.with_external_ids(self._organization, by_external),
                by_external + directory.external_ids(self._organization, by_id),
            )
            self.add(
                f"(customer_id IN ({_marks(by_id)}) OR external_customer_id IN ({_marks(by_external)}))",
                *by_id,
                *by_external,
            )

    def selection(self) -> Selection:
        return Selection(" AND ".join(self._clauses), tuple(self._parameters))


def _apply_filter(store: Store, organization: str, where: _Where, text: str) -> None:
    try:
        parsed = Filter.model_validate_json(text)
    except ValidationError as error:
        raise Invalid.from_pydantic(error, with_url=True) from error
    if _mentions_time(parsed) and store.analytics.has_events_before_1970(organization):
        raise BrokenAnalytics("a filter on timestamp meets an event from before 1970")
    clause, parameters = _filter_sql(parsed)
    where.add(clause, *parameters)


def _mentions_time(clause: Filter | FilterClause) -> bool:
    if isinstance(clause, Filter):
        return any(_mentions_time(inner) for inner in clause.clauses)
    return clause.property == "timestamp"


_OPERATORS = {"eq": "=", "ne": "!=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def _filter_sql(clause: Filter | FilterClause) -> tuple[str, list[Any]]:
    if isinstance(clause, Filter):
        parts = [_filter_sql(inner) for inner in clause.clauses]
        joined = f" {clause.conjunction.upper()} ".join(part for part, _ in parts) or "1"
        return f"({joined})", [parameter for _, inner in parts for parameter in inner]
    value = clause.value
    path: list[Any] = []
    if isinstance(value, bool) and clause.operator in ("eq", "ne"):
        # Polar's engine finds no value equal to a boolean, not even the same boolean.
        return str(int(clause.operator == "ne")), []
    if clause.property in ("name", "source"):
        left = clause.property
        if not isinstance(value, str):
            return "0", []
    elif clause.property == "timestamp":
        # Whole seconds, as the analytics store rounds an event's moment down to compare it.
        left = "(milliseconds / 1000)"
        if isinstance(value, str):
            return "0", []
    elif isinstance(value, str) or clause.operator in ("like", "not_like"):
        left, path = _metadata_text(clause.property)
    else:
        left, path = _metadata_number(clause.property)
    if clause.operator in ("like", "not_like"):
        text = ("t" if value else "f") if isinstance(value, bool) else str(value)
        negation = "NOT " if clause.operator == "not_like" else ""
        return f"({left} {negation}GLOB ?)", [*path, f"*{_escape_glob(text)}*"]
    return f"({left} {_OPERATORS[clause.operator]} ?)", [*path, value]


def metadata_path(key: str, nested: bool = True) -> str:
    """Where a value of the metadata is, for SQLite; dots lead into nested objects."""
    parts = key.removeprefix("metadata.").split(".") if nested else [key]
    return "$" + "".join(f'."{part.replace(chr(34), "")}"' for part in parts)


def _metadata_text(key: str) -> tuple[str, list[Any]]:
    """A metadata value as text; an event without the key compares as an empty text."""
    path = metadata_path(key)
    text = (
        "(CASE json_type(metadata, ?) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
        " ELSE coalesce(CAST(json_extract(metadata, ?) AS TEXT), '') END)"
    )
    return text, [path, path]


def _metadata_number(key: str) -> tuple[str, list[Any]]:
    """A metadata value as a number; an event without the key, or with another text there, compares as 0."""
    return "coalesce(CAST(json_extract(metadata, ?) AS REAL), 0)", [metadata_path(key)]


def _apply_query(store: Store, organization: str, where: _Where, text: str, with_organization: bool) -> None:
    error = {"type": "value_error", "msg": "", "loc": ["query", "query"], "input": text}
    if not with_organization:
        raise Invalid([{**error, "msg": "Query is only supported when organization_id is provided."}])
    if len(text) < 3:
        raise Invalid([{**error, "msg": "Query must be at least 3 characters long."}])
    customers = store.directory.customers_like(organization, text)
    ids = [customer["id"] for customer in customers]
    external = [customer["external_id"] for customer in customers if customer["external_id"]]
    contains = "LIKE '%' || ? || '%' ESCAPE '\\'"
    where.add(
        f"(name {contains} OR source {contains} OR metadata {contains}"
        f" OR customer_id IN ({_marks(ids)}) OR external_customer_id IN ({_marks(external)}))",
        *[_escape_like(text)] * 3,
        *ids,
        *external,
    )


def _apply_tree(where: _Where, organization: str, query: ListQuery) -> None:
    if query.depth is None:
        if query.parent_id is not None:
            where.add("parent_id = ?", str(query.parent_id))
        return
    if query.parent_id is None:
        root, parameter = "parent_id IS NULL AND organization = ?", organization
    else:
        root, parameter = "id = ?", str(query.parent_id)
        where.add("id != ?", parameter)
    where.add(
        f"id IN (WITH RECURSIVE tree(id, level) AS (SELECT id, 0 FROM events WHERE {root}"
        " UNION ALL SELECT events.id, level + 1 FROM events JOIN tree ON events.parent_id = tree.id"
        " WHERE level < ?) SELECT id FROM tree)",
        parameter,
        query.depth,
    )


def texts(values: Any) -> list[str]:
    """Ids and the like as a list of texts; empty for None."""
    if values is None:
        return []
    if isinstance(values, (str, uuid.UUID)):
        return [str(values)]
    return [str(value) for value in values]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _escape_like(text: str) -> str:
    return re.sub(r"([\\%_])", r"\\\1", text)


def _escape_glob(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)
