"""Compares exported windows with Polar, without a new export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polar.exceptions import PolarIncompleteError
from airflow_provider_polar.operators._base import PolarDirectoryOperator, PolarWindowOperator, in_words, some
from airflow_provider_polar.parameters import Parser, one_of
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.lookback import Comparison
    from airflow_provider_polar.engine.window import EventWindow


class PolarReconcileEventsOperator(PolarDirectoryOperator, PolarWindowOperator):
    """Compares every exported window in a range of time with what Polar counts now: one request a window.

    An equal count is a good sign, and no proof: late events can come while others are deleted by Polar's operators.
    A window that was exported in several layouts is compared once, with each of its manifests. Windows that reach over
    an edge of the range are compared whole. Differently filtered exports are not looked at.

    Takes the parameters of a :class:`~airflow_provider_polar.operators._base.PolarWindowOperator`, its window being the
    range, and of a :class:`~airflow_provider_polar.operators._base.PolarDirectoryOperator`.

    Returns plain JSON: ``windows`` (compared), ``equal`` (how many), ``changed`` (those whose count is another one now:
    ``start``, ``end``), ``incomplete`` (those whose manifest says that events are missing, or is torn) and ``missing``
    (spans of the range without a manifest).

    :param on_difference: ``fail`` if a window has changed, is incomplete or is missing, or ``warn``.
    :raises PolarIncompleteError: windows have changed, are incomplete or are missing; a retry helps once they are
        exported.
    """

    template_fields: Sequence[str] = (*PolarWindowOperator.template_fields, "destination", "destination_conn_id")

    def __init__(self, *, on_difference: Literal["fail", "warn"] = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.on_difference = on_difference
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {"on_difference": one_of("fail", "warn")}

    def _work(self, context: Context, window: EventWindow, filters: EventFilters) -> dict[str, Any]:
        from airflow_provider_polar.engine.exporting.lookback import compare
        from airflow_provider_polar.engine.exporting.manifest import exports_in
        from airflow_provider_polar.plugins.ledger.destinations import index_anew
        from airflow_provider_polar.plugins.ledger.records import keep_check

        directory = self._directory()
        self.log.info("comparing the exports of %s with %s in %s", window, in_words(filters), directory.url)
        exports = [
            export
            for export in exports_in(directory, filters)
            if export.window.start < window.end and export.window.end > window.start
        ]
        found = compare(self._reader(filters), directory, exports, window)
        result = {
            "windows": len(found.equal) + len(found.changed) + len(found.incomplete),
            "equal": len(found.equal),
            "changed": [window.to_dict() for window in found.changed],
            "incomplete": [window.to_dict() for window in found.incomplete],
            "missing": [window.to_dict() for window in found.unexported],
        }
        index_anew(directory)
        keep_check(context, directory.url, window, filters, result)
        self._report(found, directory.url)
        return result

    def _report(self, found: Comparison, where: str) -> None:
        self.log.info("%s in %s hold as many events as Polar counts", number_of(len(found.equal), "window"), where)
        parts = []
        if found.changed:
            parts.append(f"{number_of(len(found.changed), 'window')} changed since: {some(found.changed)}")
        if found.incomplete:
            parts.append(f"{number_of(len(found.incomplete), 'window')} not complete: {some(found.incomplete)}")
        if found.unexported:
            parts.append(f"no manifest covers {some(found.unexported)}")
        if not parts:
            return
        message = f"the exports in {where} are not all that Polar counts: {'; '.join(parts)}. Export these again"
        if self.on_difference == "fail":
            raise PolarIncompleteError(
                message, missing=[w.to_dict() for w in (*found.changed, *found.incomplete, *found.unexported)]
            )
        self.log.warning("%s", message)
