"""Splits a window into shards for mapped exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_polar.operators._base import PolarWindowOperator
from airflow_provider_polar.parameters import Parser, optional, positive_count

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.window import EventWindow


class PolarPlanExportOperator(PolarWindowOperator):
    """Splits a window, by Polar's counts, into shards of about equally many events.

    They are exported by mapped tasks on many workers, and one task makes one export of them:

    .. code-block:: python

        plan = PolarPlanExportOperator(task_id="plan", start="2025-01-01T00:00:00Z", window="1 year", workers=4)
        export = PolarExportEventsOperator.partial(
            task_id="export", destination=..., max_active_tis_per_dagrun=4
        ).expand_kwargs(plan.output)
        PolarAssembleExportOperator(task_id="assemble", destination=..., plan=plan.output) << export

    Takes the parameters of a :class:`~airflow_provider_polar.operators._base.PolarWindowOperator`; the filters are the
    exports' own. Returns a list of ``{"start", "end", "requests_per_minute"}``. The request budget is that of all
    exports together and is divided by ``workers``: see to it that no more of them run at once, by
    ``max_active_tis_per_dagrun=workers`` or, across DAGs, a pool of that many slots.

    :param pieces: how many shards at most; by default four times ``workers``, so that none waits long for the last.
    :param workers: how many exports run at once.
    """

    def __init__(self, *, pieces: int | None = None, workers: int = 4, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pieces = pieces
        self.workers = workers
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"pieces": optional(positive_count), "workers": positive_count}

    def _work(self, context: Context, window: EventWindow, filters: EventFilters) -> list[dict[str, Any]]:  # noqa: ARG002
        """Requests counts only."""
        from airflow_provider_polar.engine.exporting.shards import plan_shards

        workers = self._parsed("workers")
        planned = plan_shards(self._reader(filters), window, self._parsed("pieces") or 4 * workers)
        budget = self.hook.settings.requests_per_minute / min(workers, len(planned))
        counts = [count for _, count in planned]
        self.log.info("%s: %s shards of %s to %s events", window, len(planned), f"{min(counts):,}", f"{max(counts):,}")
        return [{**shard.to_dict(), "requests_per_minute": budget} for shard, _ in planned]
