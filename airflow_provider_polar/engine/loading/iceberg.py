"""The load of exported windows into an Iceberg table: one snapshot a window."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException

from airflow_provider_polar.engine.loading.columns import EventColumns, Kind
from airflow_provider_polar.engine.loading.iceberg_change import WindowChange
from airflow_provider_polar.engine.loading.iceberg_failures import telling
from airflow_provider_polar.engine.loading.iceberg_history import check_filters, holds, said_of
from airflow_provider_polar.engine.loading.iceberg_table import EventTable
from airflow_provider_polar.engine.loading.load import Loaded, Mode
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.exceptions import PolarDatabaseError
from airflow_provider_polar.wording import number_of

_ATTEMPTS = 50
_LONGEST_WAIT = 2.0

log = logging.getLogger(__name__)


class IcebergLoad:
    """Loads exported windows into a table, creating it if it is missing, and adding columns that it lacks.

    :param catalog: that the table is in.
    :param table: namespace and name.
    :param where: the catalogue, in words.
    :param mode: ``insert`` adds events that are not there; ``replace_window`` also takes those away that a window no
        longer holds, and renews the others.
    :param run: what loads, for the snapshot's properties.
    :param exclude_fields: fields of the exports that are not loaded.
    :param metadata_columns: typed columns out of the metadata.
    """

    def __init__(
        self,
        catalog: Catalog,
        table: TableName,
        *,
        where: str,
        mode: Mode = "insert",
        run: str = "",
        exclude_fields: Sequence[str] | None = None,
        metadata_columns: Mapping[str, Kind] | None = None,
        logger: Any = log,
    ) -> None:
        self._table = EventTable(catalog, table, where, logger)
        self._name = table
        self._where = where
        self._mode = mode
        self._run = run
        self._exclude_fields = exclude_fields
        self._metadata_columns = metadata_columns
        self._log = logger
        self.location = ""
        """Where the table is, once a window was loaded."""

    def load(self, exported: ExportedWindow) -> Loaded:
        """Loads a window whole, or leaves the table as it is.

        :raises PolarTableError: the table is not what is needed, or holds other events of the window than the
            manifest; a retry does not help.
        :raises PolarDatabaseError: the catalogue or the table's store failed; a retry may help.
        :raises PolarSourceError: a file is not what the manifest says; a retry helps once it is exported again.
        :raises PolarDestinationError: the store of the files does not respond; a retry may help.
        :raises PolarConfigurationError: the export has no metadata to take columns from; a retry does not help.
        """
        columns = EventColumns.choose(
            exported.manifest.fields, exclude_fields=self._exclude_fields, metadata_columns=self._metadata_columns
        )
        with telling(f"load {exported.manifest.window} into the table {self._name}", self._where):
            return self._load(exported, columns)

    def _load(self, exported: ExportedWindow, columns: EventColumns) -> Loaded:
        change, new_fields, loaded = None, set[str](), Loaded(exported.manifest.rows)
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    table = self._table.newest(columns.columns)
                    self.location = table.location()
                    if holds(table, exported):
                        self._log.info("%s is in %s already, by this manifest", exported.manifest.window, self._name)
                        return Loaded(exported.manifest.rows, skipped=True)
                    check_filters(table, exported, self._where)
                    if change is None or not change.fits(table):
                        if change is not None:
                            change.discard()
                        change = WindowChange(table, exported, columns)
                        loaded = change.write(self._mode, new_fields)
                    change.commit(table, said_of(exported, self._run))
                except CommitFailedException:
                    self._log.info("another commit to %s came first: trying again on top of it", self._name)
                    time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.05 * 2**attempt)))  # noqa: S311
                else:
                    self._tell(exported, loaded, new_fields)
                    return loaded
        finally:
            if change is not None:
                change.discard()
        raise PolarDatabaseError(
            f"{_ATTEMPTS} times another commit to {self._name} in {self._where} came before that of "
            f"{exported.manifest.window}: let fewer tasks load into it at once. The table is without it; a retry helps"
        )

    def _tell(self, exported: ExportedWindow, loaded: Loaded, new_fields: set[str]) -> None:
        window = exported.manifest.window
        if new_fields:
            left_out = "extra" in (self._exclude_fields or ())
            self._log.warning(
                "events of %s have fields that this version does not know: %s; they are %s",
                window,
                ", ".join(sorted(new_fields)),
                "left out, as exclude_fields says" if left_out else "in the column extra",
            )
        self._log.info(
            "loaded %s of %s into %s: %s new, %s removed",
            number_of(loaded.rows, "event"),
            window,
            self._name,
            f"{loaded.inserted:,}",
            f"{loaded.removed:,}",
        )
