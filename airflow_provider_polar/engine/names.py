"""Every event name in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.api.filters import NameFilters, unknown_filter
from airflow_provider_polar.api.limits import MAX_LIMIT
from airflow_provider_polar.api.models import EventName
from airflow_provider_polar.engine.pages import every_item
from airflow_provider_polar.exceptions import PolarFilterError

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import PolarClient

KNOWN = (*NameFilters.__annotations__, "sorting")


def read_names(client: PolarClient, filters: Mapping[str, Any]) -> Iterator[EventName]:
    """Each name once, in the order requested (by name where none is: an order that new events do not change).

    :raises PolarFilterError: an unknown filter, which Polar would ignore.
    """
    if unknown := sorted(set(filters) - set(KNOWN)):
        raise PolarFilterError(unknown_filter(unknown[0], KNOWN, "event names have"))
    given = {"sorting": "name", **{name: value for name, value in filters.items() if value is not None}}
    # The same name may exist as a system and as a user event.
    return every_item(lambda page: client.list_names(page=page, limit=MAX_LIMIT, **given), attrgetter("name", "source"))
