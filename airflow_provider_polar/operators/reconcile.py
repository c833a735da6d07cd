"""Compares exported windows with Polar, and exports again what has changed if wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_polar.exceptions import PolarConfigurationError, PolarIncompleteError
from airflow_provider_polar.operators._base import PolarDirectoryOperator, PolarWindowOperator, in_words, some
from airflow_provider_polar.operators._storage import check_report_path, storage_path
from airflow_provider_polar.parameters import Parser, is_templated, number, one_of, optional
from airflow_provider_polar.wording import number_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_polar.api.filters import EventFilters
    from airflow_provider_polar.engine.exporting.comparison import CompareBy, Comparison, IsEqual, Manifests
    from airflow_provider_polar.engine.exporting.deep import DeepComparison
    from airflow_provider_polar.engine.exporting.export import WindowExport
    from airflow_provider_polar.engine.exporting.manifest import ExportName
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.engine.reading.reader import CompleteReader
    from airflow_provider_polar.engine.window import EventWindow

_KEPT_DIFFERENCES = 100
"""Exports of which the result tells how they differ: it is to fit into Airflow's database."""


class PolarReconcileEventsOperator(PolarDirectoryOperator, PolarWindowOperator):
    """Compares every exported window in a range of time with what Polar has now.

    By default that is what Polar counts: one request a window. An equal count is a good sign, and no proof, since
    Polar's operators remove and restore events now and then: one that went and one that came count as before.
    ``compare_by`` counts more finely, and ``deep`` reads the events again, at about as many requests as an export
    takes, and compares them with the files one by one: ids and the values of all fields but ``customer``, ``label`` and
    ``child_count``, which may change at any time, and those that Polar has added since.

    A window that was exported in several layouts is compared once, with each of its exports. Windows that reach over
    an edge of the range are compared whole. Differently filtered exports are not looked at. Of an export without ``id``
    the deep comparison compares the digest of the ids only.

    Takes the parameters of a :class:`~airflow_provider_polar.operators._base.PolarWindowOperator`, its window being the
    range, and of a :class:`~airflow_provider_polar.operators._base.PolarDirectoryOperator`.

    Returns plain JSON: ``windows`` (compared), ``equal`` (how many), ``changed`` (those that are not: ``start``,
    ``end``), ``incomplete`` (those whose manifest says that events are missing, or is torn) and ``missing`` (spans of
    the range without a manifest). With ``deep`` also ``deep`` (windows compared so), ``report`` (its path) and
    ``differences``: of the first hundred exports that differ ``start``, ``end``, ``manifest``, how many events are
    ``gone``, ``new`` and ``different``, their ``ids`` (of the whole run the first thousand), in how many each of
    the ``fields`` has another value, ``counted`` (now, if the manifest has another count), ``not_given`` (events that
    Polar counts and does not give now) and what is ``damaged``. With ``on_difference="export"`` also ``exported``:
    ``start``, ``end``, ``manifest`` and ``rows`` of each export made again.

    :param on_difference: ``fail`` if a window has changed, is incomplete or is missing; ``warn``; or ``export`` those
        that have changed or are incomplete again, each in the layouts that it has, and fail only for what is left: a
        window without a manifest, or one that cannot be proved.
    :param compare_by: what is counted besides each window as a whole, by one more request each: ``name``, the events of
        each name, or ``hour``, those of each hour, that the window's manifest has.
    :param deep: True, or a share of the windows, such as ``0.05``, chosen by the run so that each window has its turn
        once in ``1/share`` consecutive runs of the schedule; the others are counted (templated).
    :param compare_content: whether a deep comparison compares the values of fields, too. Without, a window of which
        the digest of the ids is the manifest's is done, and its files are not read.
    :param report_path: a file for every event that differs, as JSON lines: ``start``, ``end``, ``manifest``, ``id``,
        ``difference``, ``fields``. Written whole, and only with ``deep`` (templated).
    :param report_conn_id: Airflow connection of its store (templated).
    :raises PolarIncompleteError: windows have changed, are incomplete or are missing; a retry helps once they are
        exported.
    """

    template_fields: Sequence[str] = (
        *PolarWindowOperator.template_fields,
        "destination",
        "destination_conn_id",
        "deep",
        "report_path",
        "report_conn_id",
    )

    def __init__(
        self,
        *,
        on_difference: Literal["fail", "warn", "export"] = "fail",
        compare_by: CompareBy | None = None,
        deep: bool | float | str = False,
        compare_content: bool = True,
        report_path: str | ObjectStoragePath | None = None,
        report_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.on_difference = on_difference
        self.compare_by = compare_by
        self.deep = deep
        self.compare_content = compare_content
        self.report_path = report_path
        self.report_conn_id = report_conn_id
        self._check()

    def _parsers(self) -> dict[str, Parser]:
        return super()._parsers() | {
            "on_difference": one_of("fail", "warn", "export"),
            "compare_by": optional(one_of("name", "hour")),
            "deep": _share,
            "report_path": optional(check_report_path),
        }

    def _check_together(self) -> None:
        super()._check_together()
        if self.report_path is not None and not is_templated(self.deep) and not self._parsed("deep"):
            raise PolarConfigurationError("report_path is for the events that differ, which only deep= finds")

    def _work(self, context: Context, window: EventWindow, filters: EventFilters) -> dict[str, Any]:
        from airflow_provider_polar.engine.exporting.comparison import compare
        from airflow_provider_polar.engine.exporting.deep import DeepComparison
        from airflow_provider_polar.engine.exporting.manifest import exports_in
        from airflow_provider_polar.engine.files.report import LinesReport
        from airflow_provider_polar.plugins.ledger.destinations import index_anew
        from airflow_provider_polar.plugins.ledger.records import keep_check

        directory, reader = self._directory(), self._reader(filters)
        self.log.info("comparing the exports of %s with %s in %s", window, in_words(filters), directory.url)
        exports = [
            export
            for export in exports_in(directory, filters)
            if export.window.start < window.end and export.window.end > window.start
        ]
        with LinesReport(self._report_file()) as lines:
            deep = DeepComparison(reader, directory, content=self.compare_content, report=lines.add)
            found = compare(directory, exports, window, self._is_equal(context, reader, deep))
            report = lines.publish()
        result: dict[str, Any] = {
            "windows": len(found.equal) + len(found.changed) + len(found.incomplete),
            "equal": len(found.equal),
            "changed": [window.to_dict() for window in found.changed],
            "incomplete": [window.to_dict() for window in found.incomplete],
            "missing": [window.to_dict() for window in found.unexported],
        }
        if self._parsed("deep"):
            differences = [difference.to_dict() for difference in deep.differences[:_KEPT_DIFFERENCES]]
            result |= {"deep": deep.windows, "differences": differences, "report": report}
        index_anew(directory)
        keep_check(context, directory.url, window, filters, result)
        if self.on_difference == "export":
            differing = [one for one in exports if one.window in {*found.changed, *found.incomplete}]
            torn: list[EventWindow] = []
            result["exported"], failure = self._export_again(
                self._exports_of(reader, directory, filters, differing, torn)
            )
            keep_check(context, directory.url, window, filters, result)
            if failure is not None:
                raise failure
            found = replace(found, changed=(), incomplete=tuple(torn))
        self._report(found, directory.url)
        return result

    def _report_file(self) -> ObjectStoragePath | None:
        if self.report_path is None:
            return None
        return storage_path(self.report_path, self.report_conn_id, "report_path")

    def _is_equal(self, context: Context, reader: CompleteReader, deep: DeepComparison) -> IsEqual:
        """How each window is compared: deep if it is its turn in this run, else by count."""
        from airflow_provider_polar.engine.exporting.comparison import counts_are_equal
        from airflow_provider_polar.windows.turns import is_due, turn_of

        by_count, share = counts_are_equal(reader, self.compare_by), self._parsed("deep")
        turn = turn_of(context, share) if 0 < share < 1 else 0

        def is_equal(window: EventWindow, manifests: Manifests) -> bool:
            return (deep.is_equal if share and is_due(window, turn, share) else by_count)(window, manifests)

        return is_equal

    def _exports_of(
        self,
        reader: CompleteReader,
        directory: Directory,
        filters: EventFilters,
        names: Sequence[ExportName],
        torn: list[EventWindow],
    ) -> Iterator[WindowExport]:
        """The same exports again, as their manifests say; those of a torn one, which cannot say it, are told apart."""
        from airflow_provider_polar.engine.exporting.manifest import read_manifest_or_none

        for name in names:
            manifest = read_manifest_or_none(directory, name.manifest)
            if manifest is None:
                torn.append(name.window)
                continue
            manifest.layout.check_installed()
            on_incomplete = "fail" if manifest.complete else "warn"
            yield self._window_export(
                reader, directory, name.window, filters, manifest.layout, on_incomplete=on_incomplete
            )

    def _report(self, found: Comparison, where: str) -> None:
        self.log.info("%s in %s are as Polar has them", number_of(len(found.equal), "window"), where)
        parts = []
        if found.changed:
            parts.append(f"{number_of(len(found.changed), 'window')} changed since: {some(found.changed)}")
        if found.incomplete:
            parts.append(f"{number_of(len(found.incomplete), 'window')} not complete: {some(found.incomplete)}")
        if found.unexported:
            parts.append(f"no manifest covers {some(found.unexported)}")
        if not parts:
            return
        message = f"the exports in {where} are not all that Polar has: {'; '.join(parts)}. Export these again"
        if self.on_difference == "warn":
            self.log.warning("%s", message)
            return
        raise PolarIncompleteError(
            message, missing=[w.to_dict() for w in (*found.changed, *found.incomplete, *found.unexported)]
        )


def _share(value: Any, name: str) -> float:
    """A share from 0 to 1; True is all."""
    given = {"True": True, "False": False}.get(value, value) if isinstance(value, str) else value
    share = float(given) if isinstance(given, bool) else number(given)
    if share is None or not 0 <= share <= 1:
        raise PolarConfigurationError(f"{name} is {value!r}; it is True, False, or a share of the windows such as 0.05")
    return share
