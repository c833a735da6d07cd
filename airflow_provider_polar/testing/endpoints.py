"""What Polar's endpoints of events respond, from the store."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

from airflow_provider_polar.testing.errors import BrokenAnalytics
from airflow_provider_polar.testing.faults import Fault
from airflow_provider_polar.testing.ingest import ingest
from airflow_provider_polar.testing.meters import NOT_FOUND, Content, Meters
from airflow_provider_polar.testing.query import (
    MAX_LIMIT,
    EventSort,
    ListQuery,
    NamesQuery,
    checked_id,
    listing,
    milliseconds,
    parse,
    select_events,
    select_names,
)
from airflow_provider_polar.testing.store import Lag, Store, label, new_event
from airflow_provider_polar.testing.times import to_text
from airflow_provider_polar.testing.wire import Request

_NAMES_COLUMNS = {"name": 0, "occurrences": 2, "first_seen": 3, "last_seen": 4}


@dataclass
class Settings:
    """How this local Polar behaves; may be changed while it runs."""

    environment: Literal["sandbox", "production"] = "sandbox"
    visibility_lag: Lag = 0.0
    rate_limit: tuple[int, float] | None = None
    bounds: Literal["millisecond", "second"] = "millisecond"
    collapse_duplicates: bool = True
    analytics: bool = True
    cost: Literal["polar"] | None = None


class Endpoints:
    """The responses of all endpoints, for a request that may make them."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self._read = {"list": self._list, "names": self._names, "get": self._get}
        self._others = {"ingest": self._ingest, **Meters(store).endpoints}

    def respond(self, organization: str, request: Request) -> Content:
        endpoint, params = request.record.endpoint, request.record.params
        if endpoint in self._read and not self.settings.analytics:
            raise BrokenAnalytics("the analytics store is down")
        status, content = (self._read | self._others)[endpoint](organization, request)
        if "items" not in content:
            return status, content
        if fault := request.meets("short_page"):
            del content["items"][max(0, len(content["items"]) - fault.rows) :]
        if fault := request.meets("count"):
            size = next((int(value) for key, value in params if key == "limit"), 10)
            content = listing(content["items"], fault.total_count, min(size, MAX_LIMIT))
        return status, content

    def _ingest(self, organization: str, request: Request) -> Content:
        result = ingest(
            self.store,
            organization,
            request.body,
            request.headers.get("content-type", ""),
            visible_after=self.settings.visibility_lag,
            deadlock=request.meets("deadlock") is not None,
        )
        request.record.events = result.inserted + result.duplicates
        return 200, {"inserted": result.inserted, "duplicates": result.duplicates}

    def _list(self, organization: str, request: Request) -> Content:
        query = parse(ListQuery, request.record.params)
        selection = select_events(self.store, organization, query, request.record.params)
        after = milliseconds(query.start_timestamp, self.settings.bounds)
        before = milliseconds(query.end_timestamp, self.settings.bounds)

        def count() -> int:
            return self.store.analytics.matching(selection, after=after, before=before)

        # Polar counts and gives by two queries: an event can arrive between them, whichever comes first.
        arrival = request.meets("arrival")
        total = count()
        if arrival is not None and arrival.before == "page":
            self._arrive(organization, arrival)
        ids = self.store.analytics.page(
            selection,
            after=after,
            before=before,
            descending=query.sorting[0] is EventSort.timestamp_descending,
            page=query.page,
            limit=query.page_size,
        )
        if arrival is not None and arrival.before == "count":
            self._arrive(organization, arrival)
            total = count()
        if not ids and query.page > 1:
            total = 0
        if self.settings.collapse_duplicates:
            ids = list(dict.fromkeys(ids))
        rows = self.store.rows(organization, ids)
        items = [rows[event_id] for event_id in ids if event_id in rows]
        return 200, listing(items, total, query.page_size)

    def _arrive(self, organization: str, fault: Fault) -> None:
        self.store.add(organization, (new_event(self.store, event) for event in fault.events))

    def _names(self, organization: str, request: Request) -> Content:
        query = parse(NamesQuery, request.record.params)
        counted = self.store.analytics.names(select_names(self.store, organization, query))
        for criterion in reversed(query.sorting):
            column = _NAMES_COLUMNS[criterion.value.removeprefix("-")]
            counted.sort(key=itemgetter(column), reverse=criterion.value.startswith("-"))
        items = [
            {
                "name": name,
                "label": label(name, source),
                "source": source,
                "occurrences": occurrences,
                "first_seen": to_text(first * 1000),
                "last_seen": to_text(last * 1000),
            }
            for name, source, occurrences, first, last in counted
        ]
        return 200, query.of(items)

    def _get(self, organization: str, request: Request) -> Content:
        event_id = checked_id(request.record.path.removeprefix("/v1/events/"))
        row = self.store.rows(organization, [event_id]).get(event_id)
        if row is None or not self.store.analytics.is_visible(organization, event_id):
            return NOT_FOUND
        return 200, row | {"child_count": 0}
