"""Loads in processes of their own, to be killed at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

# Imported here, so that the process that all the killed ones are forked from has done it.
import duckdb
import psycopg
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.loading.databases import database_of
from airflow_provider_polar.engine.loading.load import TableLoad
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName


def connect(kind: str, place: str) -> Any:
    """A connection to a database.

    :param place: a file's path, or what psycopg connects to.
    """
    if kind == "sqlite":
        import sqlite3

        return sqlite3.connect(place)
    if kind == "postgres":
        return psycopg.connect(place)
    while True:
        # One process at a time has its file open, a reader's too: a task would be retried.
        with suppress(duckdb.IOException):
            return duckdb.connect(place)


def load(kind: str, place: str, folder: str, manifests: Sequence[str]) -> None:
    """Loads windows, replacing what is there of them."""
    directory = Directory(ObjectStoragePath(f"file://{folder}"))
    with closing(connect(kind, place)) as connection:
        loading = TableLoad(database_of(connection, kind), TableName(("events",)), mode="replace_window")
        for name in manifests:
            loading.load(ExportedWindow.read(directory, name))
