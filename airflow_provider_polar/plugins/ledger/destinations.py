"""The destinations whose indexes the ledger reads: those that Airflow's configuration names."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from airflow_provider_polar.engine.files.uris import same_for_all_connections
from airflow_provider_polar.exceptions import PolarError

if TYPE_CHECKING:
    from airflow_provider_polar.engine.exporting.index import Entry
    from airflow_provider_polar.engine.exporting.manifest import ExportName, Manifest
    from airflow_provider_polar.engine.files.storage import Directory

SECTION, OPTION = "polar", "ledger_destinations"
_REMEMBERED = 60.0
"""Seconds for which a web server does not read an index again."""

log = logging.getLogger(__name__)


def destinations() -> dict[str, str]:
    """Each destination without its connection, and as it is written: paths, separated by white space or commas."""
    paths = (conf.get(SECTION, OPTION, fallback="") or "").replace(",", " ").split()
    return {same_for_all_connections(path.rstrip("/")): path for path in paths}


def index_export(directory: Directory, manifest_name: str, manifest: Manifest) -> None:
    """Puts an export into the index of its directory, if the ledger is to read that."""
    from airflow_provider_polar.engine.exporting.index import add_to_index
    from airflow_provider_polar.engine.exporting.manifest import ExportName

    export = ExportName.parse(manifest_name)
    if export is None or same_for_all_connections(directory.url) not in destinations():
        return
    try:
        add_to_index(directory, export, manifest, datetime.now(UTC))
    except PolarError as error:
        log.warning("The export is published, and missing in the ledger's index until the next check: %s", error)


def index_anew(directory: Directory) -> None:
    """Makes the index of a directory name what there is, if the ledger is to read it."""
    from airflow_provider_polar.engine.exporting.index import rebuild_index

    if same_for_all_connections(directory.url) not in destinations():
        return
    try:
        rebuild_index(directory)
    except PolarError as error:
        log.warning("The ledger's index stays as it is: %s", error)


def indexed() -> dict[str, Mapping[ExportName, Entry]]:
    """The exports of each destination that the configuration names; none of one that cannot be read."""
    now = int(time.monotonic() // _REMEMBERED)
    return {destination: _entries(path, now) for destination, path in destinations().items()}


@lru_cache(maxsize=64)
def _entries(path: str, _now: int) -> Mapping[ExportName, Entry]:
    from airflow_provider_polar.engine.exporting.index import read_index
    from airflow_provider_polar.engine.files.storage import Directory
    from airflow_provider_polar.operators._storage import storage_path

    try:
        return read_index(Directory(storage_path(path, None, f"[{SECTION}] {OPTION}")))
    except PolarError as error:
        log.warning("The ledger shows nothing of an index that it cannot read: %s", error)
        return {}
