"""The filters of ``GET /v1/events/``, as one model that refuses what Polar would silently ignore."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypedDict, TypeVar
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from airflow_provider_polar.api.limits import INTEGERS, MAX_DEPTH, MIN_QUERY
from airflow_provider_polar.exceptions import PolarFilterError
from airflow_provider_polar.wording import did_you_mean

Params = list[tuple[str, str]]
OneOrSeveral = str | Sequence[str]

_BOUNDS = {"start_timestamp", "end_timestamp", "start", "end", "timestamp", "since", "until", "after", "before"}


def unknown_filter(name: str, known: Iterable[str], having: str = "Polar has") -> str:
    """What to tell of a filter that Polar does not know; it would ignore it, and return everything.

    :param known: the filters that there are.
    :param having: what has them.
    """
    if name in _BOUNDS:
        return f"filter {name}: a window is no filter, use start= and end="
    return f"filter {name}: unknown, {having}: {', '.join(known)}{did_you_mean(name, known)}"


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _metadata_text(value: Any) -> str:
    """How Polar writes a metadata value when it compares it as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise ValueError(f"a metadata filter compares text, numbers and booleans, not {type(value).__name__}")


def _uuid_text(value: Any) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise ValueError("is not a UUID") from None  # not quoted: it may be a customer's e-mail address


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None


def _is_rendered_nothing(value: Any) -> bool:
    """A template renders what is not there to "None" or to nothing: as a filter it would match nothing, silently."""
    if isinstance(value, Mapping):
        return any(map(_is_rendered_nothing, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_is_rendered_nothing, value))
    return isinstance(value, str) and value.strip() in ("", "None")


class NameFilters(TypedDict, total=False):
    """What a list of event names can be filtered by; ``query`` is a part of the name, case ignored."""

    organization_id: OneOrSeveral | None
    customer_id: OneOrSeveral | None
    external_customer_id: OneOrSeveral | None
    source: OneOrSeveral | None
    query: str | None


class ListFilters(NameFilters, total=False):
    """The filters of :class:`EventFilters` as keywords, with the values that it takes for them."""

    name: OneOrSeveral | None
    meter_id: str | None
    metadata: Mapping[str, Any] | None
    filter: Mapping[str, Any] | str | None
    parent_id: str | None
    depth: int | None


T = TypeVar("T")
# An empty list would be sent as no parameter at all, and then Polar returns everything.
OneOrMore = Annotated[list[T], BeforeValidator(_as_list), Field(min_length=1)]
Text = Annotated[StrictStr, Field(min_length=1), BeforeValidator(lambda it: str(it) if isinstance(it, UUID) else it)]
MetadataText = Annotated[str, Field(min_length=1), BeforeValidator(_metadata_text)]
OneUuid = Annotated[str, BeforeValidator(_uuid_text)]


class FilterClause(BaseModel):
    """One comparison of ``filter``.

    :param property: ``name``, ``source``, ``timestamp`` (whole unix seconds) or a metadata key.
    :param operator: how to compare; ``like`` takes SQL's ``%`` and ``_``.
    :param value: text, a 32-bit integer or a boolean; Polar takes no fractions. A boolean is refused with ``eq`` and
        ``ne``, for Polar would find no event or every event: ``metadata={"trial": True}`` compares it as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    property: Annotated[StrictStr, Field(min_length=1)]
    operator: Literal["eq", "ne", "gt", "gte", "lt", "lte", "like", "not_like"]
    value: StrictBool | StrictInt | StrictStr

    @field_validator("value", mode="before")
    @classmethod
    def _fits_32_bits(cls, value: Any) -> Any:
        if not isinstance(value, (bool, int, str)):
            raise ValueError(f"is text, a 32-bit integer or a boolean, not {type(value).__name__}")
        if isinstance(value, int) and value not in INTEGERS:
            raise ValueError(f"{value} does not fit Polar's 32-bit integer")
        return value

    @model_validator(mode="after")
    def _compares_no_boolean(self) -> Self:
        if isinstance(self.value, bool) and self.operator in ("eq", "ne"):
            found = "no event" if self.operator == "eq" else "every event"
            raise ValueError(
                f"Polar finds {found} with {self.operator} and a boolean; the filter "
                f'metadata={{"KEY": "{_metadata_text(self.value)}"}} compares it as text'
            )
        return self


class FilterGroup(BaseModel):
    """Clauses joined by ``and`` or ``or``; groups nest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    conjunction: Literal["and", "or"] = "and"
    # A group without clauses filters nothing.
    clauses: Annotated[list[ClauseOrGroup], Field(min_length=1)]


def _kind(value: Any) -> str:
    return "group" if hasattr(value, "clauses") or (isinstance(value, Mapping) and "clauses" in value) else "clause"


# Told apart beforehand, so that a mistake in one is not told as one of the other, too.
ClauseOrGroup = Annotated[
    Annotated[FilterClause, Tag("clause")] | Annotated[FilterGroup, Tag("group")], Discriminator(_kind)
]
FilterGroup.model_rebuild()


class EventFilters(BaseModel):
    """Every filter of Polar's event list.

    Unknown ones are refused, because Polar ignores them and would return every event. Lists mean OR, different filters
    AND.

    :param name: event names.
    :param source: ``system`` (Polar's own events) or ``user`` (ingested ones).
    :param customer_id: Polar's customer ids (UUIDs).
    :param external_customer_id: your customer ids.
    :param organization_id: organizations (UUIDs); another organization's id returns nothing.
    :param meter_id: a meter (UUID) whose own filter is applied.
    :param metadata: key to value or values, compared as text.
    :param filter: a :class:`FilterGroup`, the same as a dict, or as JSON text.
    :param query: free text of three characters or more; only together with ``organization_id``.
    :param parent_id: an event (UUID) whose descendants are meant; with ``depth``.
    :param depth: 0 to 5 levels of descendants.
    :raises pydantic.ValidationError: on construction; :meth:`parse` raises
        :class:`~airflow_provider_polar.exceptions.PolarFilterError` instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: OneOrMore[Text] | None = None
    source: OneOrMore[Literal["system", "user"]] | None = None
    customer_id: OneOrMore[OneUuid] | None = None
    external_customer_id: OneOrMore[Text] | None = None
    organization_id: OneOrMore[OneUuid] | None = None
    meter_id: OneUuid | None = None
    metadata: Annotated[dict[Text, OneOrMore[MetadataText]], Field(min_length=1)] | None = None
    filter: Annotated[FilterGroup, BeforeValidator(_from_json)] | None = None
    query: str | None = Field(default=None, min_length=MIN_QUERY)
    parent_id: OneUuid | None = None
    depth: int | None = Field(default=None, ge=0, le=MAX_DEPTH)

    @model_validator(mode="after")
    def _query_needs_organization(self) -> Self:
        if self.query is not None and self.organization_id is None:
            raise ValueError("query works only together with organization_id")
        return self

    @classmethod
    def parse(cls, value: EventFilters | Mapping[str, Any] | None) -> EventFilters:
        """Filters from a model, a (templated) dict or nothing.

        None values and the keys left out mean "not filtered".

        :raises PolarFilterError: for an unknown filter or an impossible value, naming each; also for the text "None",
            which is what a template makes of a missing value. (A customer of that name: construct the model.)
        """
        if isinstance(value, EventFilters):
            return value
        if value is not None and not isinstance(value, Mapping):
            raise PolarFilterError(f"filters must be a dict or EventFilters, not {type(value).__name__}")
        given = {k: v for k, v in (value or {}).items() if v is not None}
        if nothing := [key for key, one in given.items() if _is_rendered_nothing(one)]:
            raise PolarFilterError(
                f"filter {nothing[0]} is, or has in it, an empty text or the text 'None': has a template rendered to "
                "nothing? Leave the filter out"
            )
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise PolarFilterError("; ".join(map(_in_words, error.errors(include_url=False)))) from None

    def also(self, *clauses: FilterClause) -> EventFilters:
        """These filters and, besides, every one of the clauses."""
        if not clauses:
            return self
        inner: list[FilterClause | FilterGroup] = [*clauses] if self.filter is None else [self.filter, *clauses]
        return self.model_copy(update={"filter": FilterGroup(conjunction="and", clauses=inner)})

    def to_params(self) -> Params:
        """Query parameters in a fixed order: repeated keys for OR, ``metadata[key]``, ``filter`` as JSON text."""
        params: Params = []
        for field in EventFilters.model_fields:
            match getattr(self, field):
                case None:
                    continue
                case list() as values:
                    params += [(field, value) for value in values]
                case dict() as texts:
                    params += [(f"{field}[{key}]", value) for key, values in texts.items() for value in values]
                case FilterGroup() as group:
                    params.append((field, group.model_dump_json()))
                case value:
                    params.append((field, str(value)))
        return params

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-ready form without the filters that are not set; what manifests and triggers keep."""
        return self.model_dump(mode="json", exclude_none=True)


def _in_words(error: ErrorDetails) -> str:
    # The tag of a clause or a group follows its number.
    place = [str(step) for step in error["loc"] if step not in ("clause", "group")]
    if error["type"] != "extra_forbidden":
        return f"filter {'.'.join(place) or 'combination'}: {error['msg'].removeprefix('Value error, ')}"
    if len(place) == 1:
        return unknown_filter(place[0], EventFilters.model_fields)
    known = FilterClause.model_fields if "clause" in error["loc"][-2:] else FilterGroup.model_fields
    return f"filter {'.'.join(place)}: unknown, there are {', '.join(known)}{did_you_mean(place[-1], known)}"
