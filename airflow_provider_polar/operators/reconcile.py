"""Compares exported windows with Polar, without a new export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarIncompleteError
from airflow_provider_polar.hooks.polar import PolarHook
from airflow_provider_polar.operators._base import PolarExportingOperator
from airflow_provider_polar.operators._storage import is_templated
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.lookback import Comparison
    from airflow_provider_polar.windows import CalendarWindow


class PolarReconcileEventsOperator(PolarExportingOperator):
    """Compares every exported window in a range of time with what Polar counts now: one request a window.

    An equal count is a good sign, and no proof: late events can come while others are deleted by Polar's operators.
    A window that was exported in several layouts is compared once, with each of its manifests.

    Returns plain JSON: ``windows`` (compared), ``equal`` (how many), ``changed`` (those whose count is another one now:
    ``start``, ``end``), ``incomplete`` (those whose manifest says that events are missing, or is torn) and ``missing``
    (spans of the range without a manifest).

    :param destination: directory of the manifests, as text or ``ObjectStoragePath`` (templated).
    :param destination_conn_id: Airflow connection of the store (templated).
    :param start: first moment of the range, aware datetime or ISO 8601 text with a zone (templated). Windows that
        reach over an edge of the range are compared whole.
    :param end: first moment after it (templated). Without both, the range follows the run; see
        :func:`airflow_provider_polar.windows.resolve_window`.
    :param window: length of the range, where the run gives only its one end.
    :param filters: the filters of the exports (templated); differently filtered exports are not looked at.
    :param requests_per_minute: request budget of this task, in place of the connection's.
    :param on_difference: ``fail`` if a window has changed, is incomplete or is missing, or ``warn``.
    :param polar_conn_id: connection of type ``polar`` (templated).
    """

    template_fields: Sequence[str] = (
        "polar_conn_id",
        "destination",
        "destination_conn_id",
        "start",
        "end",
        "filters",
    )

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath,
        destination_conn_id: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        window: timedelta | str | CalendarWindow | None = None,
        filters: EventFilters | Mapping[str, Any] | None = None,
        requests_per_minute: float | None = None,
        on_difference: Literal["fail", "warn"] = "fail",
        polar_conn_id: str = PolarHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.destination_conn_id = destination_conn_id
        self.start = start
        self.end = end
        self.window = window
        self.filters = filters
        self.requests_per_minute = requests_per_minute
        self.on_difference = on_difference
        self.polar_conn_id = polar_conn_id
        if on_difference not in ("fail", "warn"):
            raise PolarConfigurationError(f"on_difference is {on_difference!r}; there are 'fail' and 'warn'")
        if not is_templated(filters):
            from airflow_provider_polar.api.filters import EventFilters

            EventFilters.parse(filters)

    def execute(self, context: Context) -> dict[str, Any]:
        """Compares.

        :raises PolarIncompleteError: windows have changed, are incomplete or are missing; a retry helps once they are
            exported.
        :raises AirflowFailException: a parameter, the token or a scope is wrong; a retry cannot help.
        """
        with self._connected() as hook:
            from airflow_provider_polar.engine.exporting.lookback import compare
            from airflow_provider_polar.engine.exporting.manifest import exports_in
            from airflow_provider_polar.windows import resolve_window

            span = resolve_window(context, start=self.start, end=self.end, window=self.window)
            filters = hook.filters(self.filters)
            directory = self._directory()
            self.log.info(
                "comparing the exports of %s with %s in %s", span, filters.to_dict() or "no filters", directory.url
            )
            exports = [
                export
                for export in exports_in(directory, filters)
                if export.window.start < span.end and export.window.end > span.start
            ]
            found = compare(self._reader(filters), directory, exports, span)
            self._report(found, directory.url)
        return {
            "windows": len(found.equal) + len(found.changed) + len(found.incomplete),
            "equal": len(found.equal),
            "changed": [window.to_dict() for window in found.changed],
            "incomplete": [window.to_dict() for window in found.incomplete],
            "missing": [window.to_dict() for window in found.unexported],
        }

    def _report(self, found: Comparison, where: str) -> None:
        self.log.info("%s in %s hold as many events as Polar counts", number_of(len(found.equal), "window"), where)
        parts = []
        if found.changed:
            parts.append(f"{number_of(len(found.changed), 'window')} changed since: {_some(found.changed)}")
        if found.incomplete:
            parts.append(f"{number_of(len(found.incomplete), 'window')} not complete: {_some(found.incomplete)}")
        if found.unexported:
            parts.append(f"no manifest covers {_some(found.unexported)}")
        if not parts:
            return
        message = f"the exports in {where} are not all that Polar counts: {'; '.join(parts)}. Export these again"
        if self.on_difference == "fail":
            raise PolarIncompleteError(
                message, missing=[w.to_dict() for w in (*found.changed, *found.incomplete, *found.unexported)]
            )
        self.log.warning("%s", message)


def _some(windows: Sequence[Any]) -> str:
    more = f" and {len(windows) - 10} more" if len(windows) > 10 else ""
    return ", ".join(map(str, windows[:10])) + more
