"""Splits a window into shards for mapped exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.links.polar import PolarEventsLink, show_events
from airflow_provider_polar.operators._base import PolarOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.windows import CalendarWindow


class PolarPlanExportOperator(PolarOperator):
    """Splits a window, by Polar's counts, into shards of about equally many events.

    They are exported by mapped tasks on many workers, and one task makes one export of them:

    .. code-block:: python

        plan = PolarPlanExportOperator(task_id="plan", start="2025-01-01T00:00:00Z", window="1 year", workers=4)
        export = PolarExportEventsOperator.partial(
            task_id="export", destination=..., max_active_tis_per_dagrun=4
        ).expand_kwargs(plan.output)
        PolarAssembleExportOperator(task_id="assemble", destination=..., plan=plan.output) << export

    Returns a list of ``{"start", "end", "requests_per_minute"}``. The request budget is divided by ``workers``: see to
    it that no more exports run at once, by ``max_active_tis_per_dagrun=workers`` or, across DAGs, a pool of that many
    slots.

    :param start: first moment of the window, aware datetime or ISO 8601 text with a zone (templated).
    :param end: first moment after it (templated). Without both, the window follows the run; see
        :func:`airflow_provider_polar.windows.resolve_window`.
    :param window: length of the window, where the run gives only its one end (templated).
    :param filters: the exports' filters (templated).
    :param pieces: how many shards at most; by default four times ``workers``, so that none waits long for the last.
    :param workers: how many exports run at once.
    :param requests_per_minute: request budget of all of them together, in place of the connection's.
    :param settle: how long the window must have been over; the task waits on the worker for the rest of it.
    :param polar_conn_id: connection of type ``polar`` (templated).
    """

    template_fields: Sequence[str] = ("polar_conn_id", "start", "end", "window", "filters")
    operator_extra_links = (PolarEventsLink(),)

    def __init__(
        self,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        window: timedelta | str | CalendarWindow | None = None,
        filters: EventFilters | Mapping[str, Any] | None = None,
        pieces: int | None = None,
        workers: int = 4,
        requests_per_minute: float | None = None,
        settle: timedelta | None = None,
        polar_conn_id: str = PolarHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end
        self.window = window
        self.filters = filters
        self.pieces = pieces
        self.workers = workers
        self.requests_per_minute = requests_per_minute
        self.settle = settle
        self.polar_conn_id = polar_conn_id
        if workers < 1 or (pieces is not None and pieces < 1):
            raise PolarConfigurationError(f"workers={workers} and pieces={pieces} must be at least 1")

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Requests counts only.

        :raises AirflowFailException: a parameter, the token or a scope is wrong; a retry cannot help.
        :raises PolarApiError: Polar failed; a retry may help.
        """
        with self._connected() as hook:
            from airflow_provider_polar.engine.exporting.shards import plan_shards
            from airflow_provider_polar.windows import resolve_window

            window = resolve_window(context, start=self.start, end=self.end, window=self.window, settle=self.settle)
            filters = hook.filters(self.filters)
            show_events(context, hook.settings.environment, window=window, filters=filters)
            self._settle(window, self.settle)
            planned = plan_shards(self._reader(filters), window, self.pieces or 4 * self.workers)
        budget = hook.settings.requests_per_minute / min(self.workers, len(planned))
        counts = [count for _, count in planned]
        self.log.info("%s: %s shards of %s to %s events", window, len(planned), f"{min(counts):,}", f"{max(counts):,}")
        return [{**shard.to_dict(), "requests_per_minute": budget} for shard, _ in planned]
