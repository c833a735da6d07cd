"""The hook: from an Airflow connection to Polar's Events API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_polar.hooks import connection_form

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_polar.api.buckets import Interval
    from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient
    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.api.retrying import Retries
    from airflow_provider_polar.hooks.settings import ConnectionSettings


class PolarHook(BaseHook):
    """Speaks with Polar's Events API through an Airflow connection of type ``polar``.

    Nothing is looked up or sent before the first call.

    :param polar_conn_id: the :doc:`connection </connection>`: password = organization access token; host = base
        URL, empty for the environment's own; extra ``environment`` (``production`` or ``sandbox``),
        ``organization_id``, ``api_version``, ``requests_per_minute``, ``timeout``, ``allow_http``.
    :param requests_per_minute: request budget of this hook, in place of the connection's.
    :param retries: how persistent to be; None for the client's own default.
    """

    conn_name_attr = "polar_conn_id"
    default_conn_name = "polar_default"
    conn_type = connection_form.CONN_TYPE
    hook_name = "Polar"

    def __init__(
        self,
        polar_conn_id: str = default_conn_name,
        *,
        requests_per_minute: float | None = None,
        retries: Retries | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.polar_conn_id = polar_conn_id
        self.requests_per_minute = requests_per_minute
        self.retries = retries

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The connection form's standard fields, for Airflow before 3.2."""
        return connection_form.ui_field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The connection form's own fields, for Airflow before 3.2."""
        return connection_form.widgets()

    @cached_property
    def settings(self) -> ConnectionSettings:
        """The connection, read and checked (synchronously); its token is masked in Airflow's logs from then on.

        :raises PolarConfigurationError: the connection is of another type, has no token, or has an invalid value.
        """
        return self._settings(self.get_connection(self.polar_conn_id))

    async def aget_settings(self) -> ConnectionSettings:
        """The same without ever blocking the event loop."""
        if "settings" not in self.__dict__:
            from airflow.providers.common.compat.connection import get_async_connection
            from asgiref.sync import sync_to_async

            connection = await get_async_connection(self.polar_conn_id, hook=self)
            self.__dict__["settings"] = await sync_to_async(self._settings)(connection)
        return self.settings

    def _settings(self, connection: Connection) -> ConnectionSettings:
        from airflow_provider_polar.hooks.settings import ConnectionSettings

        settings = ConnectionSettings.read(connection).with_budget(self.requests_per_minute)
        for secret in settings.secrets:
            mask_secret(secret)
        return settings

    @cached_property
    def _client(self) -> PolarClient:
        from airflow_provider_polar.api.client import PolarClient

        return PolarClient(**self.settings.client_options(), retries=self.retries)

    def get_conn(self) -> PolarClient:
        """The synchronous client, made once a hook; thread-safe."""
        return self._client

    async def get_async_conn(self) -> AsyncPolarClient:
        """A new asynchronous client for the running event loop; close it with ``aclose`` or ``async with``."""
        from airflow_provider_polar.api.client import AsyncPolarClient

        return AsyncPolarClient(**(await self.aget_settings()).client_options(), retries=self.retries)

    def close(self) -> None:
        """Closes the synchronous client's connections, if there are any."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    def filters(self, filters: EventFilters | Mapping[str, Any] | None = None) -> EventFilters:
        """Filters, with the connection's ``organization_id`` where they name none.

        :raises PolarFilterError: an unknown filter or an impossible value.
        """
        from airflow_provider_polar.api.filters import EventFilters

        parsed = EventFilters.parse(filters)
        if self.settings.organization_id and parsed.organization_id is None:
            return parsed.model_copy(update={"organization_id": [self.settings.organization_id]})
        return parsed

    def list_events(
        self,
        filters: EventFilters | Mapping[str, Any] | None = None,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Every event with ``start <= timestamp < end``, each once, oldest first: the complete reader, not pages.

        :param filters: :class:`~airflow_provider_polar.api.filters.EventFilters`, or the same as a dict.
        :param start: aware; default the beginning of the calendar.
        :param end: aware; default now, and then events on their way at this moment are not waited for.
        :return: an iterator of the API's own JSON objects. About ten thousand are held at a time.
        :raises PolarFilterError, PolarWindowError: at once, before any request.
        :raises PolarIncompleteError: while iterating, after the events that there are, if what the API counts and
            what it gives differ for good.
        """
        from datetime import UTC

        from airflow_provider_polar.engine.reading.reader import CompleteReader
        from airflow_provider_polar.engine.window import EventWindow

        window = EventWindow(
            datetime.min.replace(tzinfo=UTC) if start is None else start,  # type: ignore[arg-type]
            datetime.now(UTC) if end is None else end,  # type: ignore[arg-type]
        )
        reader = CompleteReader(self.get_conn(), self.filters(filters))
        return (row.to_dict() for row in reader.iter_rows(window))

    def list_event_names(self, **filters: Any) -> list[dict[str, Any]]:
        """Every event name in use.

        :param filters: ``organization_id``, ``customer_id``, ``external_customer_id``, ``source``, ``query``
            (a substring), ``sorting`` (plus or minus ``name``, ``occurrences``, ``first_seen``, ``last_seen``).
        :return: dicts with name, label, source, occurrences, first_seen, last_seen (UTC, milliseconds).
        :raises PolarFilterError: an unknown filter, before any request.
        """
        from airflow_provider_polar.engine.names import read_names

        if self.settings.organization_id:
            filters.setdefault("organization_id", self.settings.organization_id)
        return [name.model_dump(mode="json") for name in read_names(self.get_conn(), filters)]

    def list_meters(self, **filters: Any) -> list[dict[str, Any]]:
        """Every meter, the archived ones included, in the order of creation. The token needs ``meters:read``.

        :param filters: ``organization_id``, ``query`` (a part of the name), ``is_archived``, ``metadata``.
        :return: the API's own JSON objects: ``id``, ``name``, ``unit``, ``filter``, ``aggregation``, ``archived_at``...
        :raises PolarFilterError: an unknown filter, before any request.
        """
        from operator import attrgetter

        from airflow_provider_polar.api.limits import MAX_LIMIT
        from airflow_provider_polar.engine.pages import every_item

        if self.settings.organization_id:
            filters.setdefault("organization_id", self.settings.organization_id)
        client = self.get_conn()
        meters = every_item(
            lambda page: client.list_meters(page=page, limit=MAX_LIMIT, sorting="created_at", **filters),
            attrgetter("id"),
        )
        return [meter.model_dump(mode="json") for meter in meters]

    def meter_quantities(
        self, meter_id: str, *, start: datetime | str, end: datetime | str, interval: Interval, **filters: Any
    ) -> dict[str, Any]:
        """What a meter makes of the events with ``start <= timestamp < end``, bucket by bucket, in one request.

        The window is half-open, as everywhere here: from 10:00 to 12:00 by hour are two buckets. (Polar itself would
        give three: it includes the bucket that ``end_timestamp`` lies in, which so is the start of the last one.)

        The token needs ``meters:read``. Polar reads its events from another store than lists do; what was ingested
        counts at once, though lists may not show it yet.

        :param meter_id: the meter (UUID).
        :param start: aware, and where a bucket begins; 2023 or later.
        :param end: aware, and where the bucket after the last one begins. One request reaches over 7 days by hour, 366
            by day, 371 by week, 1,460 by month and 3,650 by year.
        :param interval: ``hour``, ``day``, ``week`` (from Monday), ``month`` or ``year``.
        :param filters: ``timezone``, by whose clocks buckets begin (default UTC), ``customer_id``,
            ``external_customer_id``, ``metadata``, and ``customer_aggregation_function``, which makes a bucket's
            quantity of the quantities of its customers.
        :return: ``{"quantities": [{"timestamp": ..., "quantity": ...}, ...], "total": ...}``: the starts of the buckets
            (UTC), and their total; of a meter with ``avg`` or ``unique`` the total is that **of all time**.
        :raises PolarWindowError: a bound within a bucket, of which Polar would give the whole; or a window that is
            empty, reversed, too early or too long. Before any request; a retry does not help.
        :raises PolarFilterError, PolarConfigurationError: an unknown filter, id, interval or zone, before any request.
        :raises PolarNotFoundError: no such meter.
        """
        from airflow_provider_polar.api.buckets import buckets_of
        from airflow_provider_polar.engine.window import EventWindow

        window = EventWindow(start, end)  # type: ignore[arg-type]
        buckets = buckets_of(window.start, window.end, interval, filters.get("timezone") or "UTC")
        quantities = self.get_conn().meter_quantities(
            meter_id, start_timestamp=buckets[0], end_timestamp=buckets[-1], interval=interval, **filters
        )
        return quantities.model_dump(mode="json")

    def get_event(self, event_id: str) -> dict[str, Any]:
        """One event as the API's own JSON object.

        :raises PolarConfigurationError: not a UUID.
        :raises PolarNotFoundError: no such event, or not visible yet.
        """
        from airflow_provider_polar.api.bodies import decode_json
        from airflow_provider_polar.api.requests import get_event

        event: dict[str, Any] = self.get_conn().send(get_event(event_id), decode_json)
        return event

    def ingest_events(self, events: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Stores events, all or none, in one request: at most 32,767 events and 10 MB.

        Polar knows an event that it has by its ``external_id`` alone. Of an event without one it stores another copy,
        and bills it, each time that it is sent. So nothing gives an event an id here, and a request with an event
        that has none is not sent again when its response is lost: the task fails, and whether the events are stored
        is not known; a retry of the task may then bill them twice.

        Make the id of what makes the event unique in your business, and a task may be retried or cleared at will:

        .. code-block:: python

            from datetime import datetime

            from airflow.sdk import DAG, task

            from airflow_provider_polar.hooks.polar import PolarHook

            with DAG("bill_storage", schedule="@daily", start_date=datetime(2026, 11, 1)) as dag:

                @task(retries=3)
                def bill(gigabytes: dict[str, float], day: str) -> dict[str, int]:
                    return PolarHook().ingest_events(
                        [
                            {
                                "name": "storage.used",
                                "external_customer_id": customer,
                                "external_id": f"storage/{customer}/{day}",
                                "metadata": {"gigabytes": amount},
                            }
                            for customer, amount in gigabytes.items()
                        ]
                    )

                bill({"acme": 12.5, "globex": 3.0}, "{{ dag_run.run_after | ds }}")

        :class:`~airflow_provider_polar.operators.ingest.PolarIngestEventsOperator` gives the ids by itself, checks
        events beforehand, and makes batches of any number of them.

        :param events: as Polar takes them: ``name``, ``external_customer_id`` or ``customer_id``, and ``external_id``,
            ``timestamp`` (aware; default the moment of receipt), ``metadata``.
        :return: ``{"inserted": ..., "duplicates": ...}``
        :raises PolarValidationError: Polar refused an event, and so stored none; a retry does not help.
        :raises PolarTransportError: no response came; a retry is safe if every event has an ``external_id``.
        """
        return self.get_conn().ingest(events).model_dump(include={"inserted", "duplicates"})

    def test_connection(self) -> tuple[bool, str]:
        """What the Test button shows: two small requests, no side effect, never an exception, never the token."""
        from airflow_provider_polar.hooks.check import check_connection

        return check_connection(lambda: self.settings)
