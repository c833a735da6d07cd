"""Compares what Polar bills with what it lists, with what an export holds, and with what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarDifferenceError
from airflow_provider_polar.links.polar import PolarEventsLink, PolarReportLink, show_report
from airflow_provider_polar.operators._base import PolarWindowOperator
from airflow_provider_polar.operators._rows import PolarRowsOperator
from airflow_provider_polar.operators._storage import check_path, check_report_path, storage_path
from airflow_provider_polar.parameters import Parser, is_nothing, is_templated, number, one_of, optional, positive_count
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.metering.buckets import Buckets
    from airflow_provider_polar.engine.metering.quantities import Meter
    from airflow_provider_polar.engine.verifying.exported import ExportedEvents
    from airflow_provider_polar.engine.verifying.sent import Sent
    from airflow_provider_polar.engine.verifying.verification import Verdict
    from airflow_provider_polar.engine.window import EventWindow

DEFAULT_SAMPLE = 0.05
"""Share of the customers that is compared one by one: in 20 runs each once."""
_KEPT_DIFFERENCES = 100


class PolarVerifyUsageOperator(PolarRowsOperator, PolarWindowOperator):
    """Proves that Polar's meters bill the events that Polar lists, hour by hour, and names what differs.

    Lists and meters read two stores of Polar's. Of each meter, what its own filter and function make of the events is
    compared with the quantities that Polar gives. Where an hour differs, the task looks again, then at the
    customers, then at the events: it says which meter, hour, customer and, as far as Polar tells them apart, event.

    Equal hours cost the pages of the list, and of each meter one request for 7 days (by day, for a year). Two
    differences of one hour that cancel each other out, as of an event that is metered for another customer, show only
    where customers are compared one by one: all of them with ``by="customer"``, otherwise those of the sample. That
    is one request more for each meter, customer with events of its, and 7 days.

    Takes the parameters of a :class:`~airflow_provider_polar.operators._base.PolarWindowOperator`, but no ``filters``:
    a meter has its own. The window is one of whole hours (or days); with ``settle`` a difference, too, is looked at
    again for so long before it counts. The token needs ``events:read`` and ``meters:read``.

    Returns plain JSON: ``meters``, ``hours``, ``customers`` (those compared one by one), ``events`` and
    ``differences`` (how many), ``report`` (its path, or None) and ``equal``. The events of the task's asset
    ``outlets`` say the same, and the ``window``.

    :param meters: ids or names of the meters; default every one that is not archived (templated).
    :param by: ``customer`` compares every customer one by one; None only those of the sample (templated).
    :param sample: share of the customers, 0 to 1, that is compared one by one at least. Who it is goes by the window:
        in adjacent windows each customer has its turn (templated).
    :param interval: ``hour`` or ``day`` (templated).
    :param timezone: IANA name of the zone in which they begin (templated).
    :param events: what was sent, to be compared with Polar's list besides (templated): a list of events, as
        :class:`~airflow_provider_polar.operators.ingest.PolarIngestEventsOperator` takes it. Polar does not return an
        event's ``external_id``: compared is how many events there are of a name, a customer and an hour, and, where
        there are as many, what the meters make of them. More than was sent is no difference, for others may send.
        Of an ingest's result, which may stand here too, as many events as it inserted must be listed in the window.
    :param source: instead of ``events`` files, or a glob of them, as an ingest takes it (templated).
    :param source_conn_id: Airflow connection of their store (templated).
    :param mapping: makes events of rows, as of an ingest.
    :param destination: directory of exports to compare with Polar's meters, and with its list, in place of the list
        alone (templated): of whole windows, without filters of their own, in any layout that has the fields ``id``,
        ``timestamp``, ``name``, ``source``, ``metadata`` and, to tell customers, ``customer``, ``customer_id`` and
        ``external_customer_id``.
    :param destination_conn_id: Airflow connection of its store (templated).
    :param report_path: a file in object storage for the report (templated): a line of JSON for each difference, then
        one for each finding, which is what a meter leaves out by its own rule. It holds ids of events and customers,
        and no content of events.
    :param report_conn_id: Airflow connection of its store (templated).
    :param on_difference: ``fail``, without retries, or ``warn`` (templated).
    :param max_concurrency: requests in flight.
    :raises PolarDifferenceError: something differs; fails the task without retries.
    """

    template_fields: Sequence[str] = (
        *(field for field in PolarWindowOperator.template_fields if field != "filters"),
        "meters",
        "by",
        "sample",
        "interval",
        "timezone",
        "events",
        "source",
        "source_conn_id",
        "destination",
        "destination_conn_id",
        "report_path",
        "report_conn_id",
        "on_difference",
    )

    operator_extra_links = (PolarEventsLink(), PolarReportLink())

    def __init__(
        self,
        *,
        meters: Sequence[str] | str | None = None,
        by: Literal["customer"] | None = None,
        sample: float | str = DEFAULT_SAMPLE,
        interval: Literal["hour", "day"] = "hour",
        timezone: str = "UTC",
        destination: str | ObjectStoragePath | None = None,
        destination_conn_id: str | None = None,
        report_path: str | ObjectStoragePath | None = None,
        report_conn_id: str | None = None,
        on_difference: Literal["fail", "warn"] = "fail",
        max_concurrency: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.meters = meters
        self.by = by
        self.sample = sample
        self.interval = interval
        self.timezone = timezone
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.report_path = report_path
        self.report_conn_id = report_conn_id
        self.on_difference = on_difference
        self.max_concurrency = max_concurrency
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {
            "filters": _no_filters,
            "meters": optional(_names),
            "by": optional(one_of("customer")),
            "sample": _share,
            "interval": one_of("hour", "day"),
            "timezone": _zone,
            "destination": optional(check_path),
            "report_path": optional(check_report_path),
            "on_difference": one_of("fail", "warn"),
            "max_concurrency": positive_count,
        }

    def _check_together(self) -> None:
        super()._check_together()
        if sum(one is not None for one in (self.events, self.source, self.destination)) > 1:
            raise PolarConfigurationError("give at most one of events, source and destination")
        if self.mapping is not None and self.events is None and self.source is None:
            raise PolarConfigurationError("mapping makes events of rows: it goes with events or source")
        given = [self.start, self.end, self.interval, self.timezone]
        if self.start is not None and self.end is not None and not is_templated(given):
            from airflow_provider_polar.engine.window import EventWindow

            self._buckets(EventWindow(self.start, self.end))  # type: ignore[arg-type]

    def _buckets(self, window: EventWindow) -> Buckets:
        from airflow_provider_polar.engine.metering.buckets import Buckets

        return Buckets.of(window, self.interval, self.timezone)

    def _work(self, context: Context, window: EventWindow, filters: EventFilters) -> dict[str, Any]:
        from airflow_provider_polar.assets.emission import emit_verification
        from airflow_provider_polar.engine.verifying.meters import choose_meters

        buckets = self._buckets(window)
        meters = choose_meters(self.hook.list_meters(), self._parsed("meters"))
        names = ", ".join(meter.name for meter in meters[:10]) + (", ..." if len(meters) > 10 else "")
        self.log.info("verifying %s of %s: %s", number_of(len(meters), "meter"), window, names)
        verdict = self._verify(meters, window, buckets, filters)
        result = {
            "meters": len(meters),
            "hours": round(window.duration / timedelta(hours=1)),
            "customers": verdict.customers,
            "events": verdict.events,
            "differences": len(verdict.differences),
            "report": self._published(context, verdict, buckets),
            "equal": not verdict.differences,
        }
        self._tell(verdict, window, result)
        emit_verification(context, window, result)
        self._verified = result
        return result

    def _verify(self, meters: Sequence[Meter], window: EventWindow, buckets: Buckets, filters: EventFilters) -> Verdict:
        from airflow_provider_polar.engine.verifying.bucketed import BucketedWindow
        from airflow_provider_polar.engine.verifying.listed import ListedEvents
        from airflow_provider_polar.engine.verifying.metered import MeteredUsage
        from airflow_provider_polar.engine.verifying.sample import Sample
        from airflow_provider_polar.engine.verifying.verification import Verification

        share, side_by_side = 1.0 if self.by else self._parsed("sample"), self._parsed("max_concurrency")
        exported = self._exports(window, filters)
        if exported is not None and share and not exported.tells_customers:
            told = f"the exports in {self.destination} leave out whose the events are (the field customer)"
            if self.by:
                raise PolarConfigurationError(f"{told}, and by='customer' needs it: export it, or leave by out")
            self.log.warning("%s: no sample of customers is compared one by one", told)
            share = 0.0
        return Verification(
            ListedEvents(self._reader(filters), max_concurrency=side_by_side),
            MeteredUsage(self.hook.get_conn(), buckets),
            meters,
            BucketedWindow(window, buckets),
            exported=exported,
            sent=self._sent(meters, buckets),
            compared=Sample.of(share, window),
            max_concurrency=side_by_side,
            patience=(self._parsed("settle") or timedelta(0)).total_seconds(),
            log=self.log,
        ).run()

    def _sent(self, meters: Sequence[Meter], buckets: Buckets) -> Sent:
        """What was sent, as far as that is to be compared."""
        from airflow_provider_polar.engine.ingesting.sources import rows_in_memory, rows_of_files
        from airflow_provider_polar.engine.verifying.sent import Sent, SentCount, SentEvents

        if isinstance(self._rendered, Mapping) and "inserted" in self._rendered:
            return SentCount(self._rendered["inserted"], buckets)
        if self.events is not None:
            rows = rows_in_memory(self._rendered_events())
        elif self.source is not None:
            rows = rows_of_files(self._paths())
        else:
            return Sent()
        return SentEvents(rows, self._parsed("mapping"), meters, buckets)

    def _exports(self, window: EventWindow, filters: EventFilters) -> ExportedEvents | None:
        from airflow_provider_polar.engine.verifying.exported import ExportedEvents

        if self.destination is None:
            return None
        return ExportedEvents.find(storage_path(self.destination, self.destination_conn_id), filters, window)

    def _published(self, context: Context, verdict: Verdict, buckets: Buckets) -> str | None:
        from airflow_provider_polar.engine.files.report import LinesReport
        from airflow_provider_polar.engine.verifying.report import lines

        path = None
        if self.report_path is not None:
            path = storage_path(self.report_path, self.report_conn_id, "report_path")
        with LinesReport(path) as report:
            for line in lines(verdict, buckets):
                report.add(line)
            published = report.publish()
        if published is not None:
            show_report(context, published)
        return published

    def _tell(self, verdict: Verdict, window: EventWindow, result: Mapping[str, Any]) -> None:
        """Logs what was found; where it is to fail the task, fails it."""
        from airflow_provider_polar.engine.verifying.report import table

        for finding in verdict.findings:
            self.log.warning("%s", finding)
        client = self.hook.get_conn()
        self.log.info(
            "%s of %s, %s and %s compared one by one, in %s: %s",
            number_of(verdict.events, "event"),
            window,
            number_of(result["meters"], "meter"),
            number_of(verdict.customers, "customer"),
            number_of(client.requests_sent, "request"),
            "all equal" if not verdict.differences else number_of(len(verdict.differences), "difference"),
        )
        if not verdict.differences:
            return
        for line in table(verdict):
            self.log.warning("%s", line)
        witness = "what Polar lists" if self.destination is None else f"the exports in {self.destination}"
        if self.events is not None or self.source is not None:
            witness = f"what was sent, {witness}"
        report = f"; all of them are in {result['report']}" if result["report"] else ""
        message = (
            f"{number_of(len(verdict.differences), 'difference')} between {witness} and what Polar meters in "
            f"{window}, at {self.hook.settings.base_url} (connection {self.polar_conn_id}). The first: "
            f"{verdict.differences[0]}{report}. Do not invoice this window before they are explained; Polar's support "
            "needs the meter, the hour and the ids of the events"
        )
        if self.on_difference == "fail":
            buckets = self._buckets(window)
            kept = [one.to_dict(buckets) for one in verdict.differences[:_KEPT_DIFFERENCES]]
            raise PolarDifferenceError(message, differences=kept)
        self.log.warning("%s", message)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:  # noqa: ARG002
        """What OpenLineage's provider takes when the task has ended."""
        from airflow_provider_polar.assets.lineage import verify_lineage

        verified = getattr(self, "_verified", None)
        source = None if self.destination is None else str(self.destination)
        return verified and verify_lineage(self.polar_conn_id, source, verified)


def _no_filters(value: Any, name: str) -> None:
    if value is not None:
        raise PolarConfigurationError(f"{name} is {value!r}; a meter has a filter of its own, choose by meters=")


def _names(value: Any, name: str) -> list[str]:
    """Ids or names of meters; one may stand alone."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names or not all(isinstance(one, str) for one in names):
        raise PolarConfigurationError(f"{name} is {value!r}; it is a list of ids or names of meters")
    if any(map(is_nothing, names)):
        raise PolarConfigurationError(f"{name} is {value!r}, in which a template has rendered to nothing")
    return list(names)


def _share(value: Any, name: str) -> float:
    share = number(value)
    if share is None or not 0 <= share <= 1:
        raise PolarConfigurationError(f"{name} is {value!r}; it is a share of the customers, from 0 to 1")
    return share


def _zone(value: Any, name: str) -> None:
    from airflow_provider_polar.api.buckets import zone_of

    if not isinstance(value, str):
        raise PolarConfigurationError(f"{name} is {value!r}; it is a name such as Europe/Paris")
    zone_of(value)
