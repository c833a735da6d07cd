"""Loads into an Iceberg table in processes of their own, to be killed at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

# Imported here, so that the process that all the killed ones are forked from has done it.
import pyiceberg.catalog.sql
import pyiceberg.io.pyarrow  # noqa: F401
from airflow.providers.common.compat.sdk import ObjectStoragePath
from pyiceberg.catalog import Catalog, load_catalog

from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.loading.iceberg import IcebergLoad
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName

NAME = TableName(("usage", "events"))


def catalog_in(folder: Path | str) -> Catalog:
    """A catalogue in SQLite, its warehouse beside it."""
    return load_catalog("lake", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")


def load(lake: str, folder: str, manifests: Sequence[str]) -> None:
    """Loads windows, replacing what is there of them."""
    directory = Directory(ObjectStoragePath(f"file://{folder}"))
    loading = IcebergLoad(catalog_in(lake), NAME, where="the lake", mode="replace_window")
    for name in manifests:
        loading.load(ExportedWindow.read(directory, name))
