"""Events a second into a table of each database, and beside them dlt loading the same, where it is installed.

``python -m benchmarks.load_tables [EVENTS]`` exports so many events (default 100,000) from the local Polar, once as
jsonl and once as parquet, and loads them, a window a day, into SQLite, DuckDB and, where they are installed,
PostgreSQL and MariaDB. What is timed is the load alone, the creation of the table included.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.loading.databases import database_of
from airflow_provider_polar.engine.loading.load import TableLoad
from airflow_provider_polar.engine.loading.manifests import ExportedWindow
from airflow_provider_polar.engine.loading.tables import TableName
from airflow_provider_polar.engine.reading.reader import CompleteReader
from airflow_provider_polar.engine.window import EventWindow
from airflow_provider_polar.testing import LocalPolar

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 10


def seed(polar: LocalPolar, number: int) -> None:
    step = timedelta(days=DAYS) / number
    polar.add_events(
        {
            "name": "flight.departed",
            "external_customer_id": f"carrier-{n % 16}",
            "timestamp": START + step * n,
            "metadata": {"distance": n % 3000, "origin": "JFK", "destination": "LAX", "delay": n % 90},
        }
        for n in range(number)
    )


def exports(polar: LocalPolar, folder: Path, file_format: str) -> list[ExportedWindow]:
    directory = Directory(ObjectStoragePath(f"file://{folder}/{file_format}"))
    made = []
    with PolarClient(polar.token, base_url=polar.base_url, requests_per_minute=600_000) as client:
        reader = CompleteReader(client, EventFilters())
        for day in EventWindow(START, START + timedelta(days=DAYS)).steps(timedelta(days=1)):
            export = WindowExport(reader, directory, day, EventFilters(), FileLayout(file_format))
            export.run()
            made.append(ExportedWindow.read(directory, export.manifest_name))
    return made


Connect = Callable[[], Any]


def sqlite(folder: Path) -> Connect:
    import sqlite3

    return lambda: sqlite3.connect(folder / "warehouse.sqlite")


def duckdb(folder: Path) -> Connect:
    import duckdb

    return lambda: duckdb.connect(str(folder / "warehouse.duckdb"))


@contextmanager
def servers() -> Iterator[dict[str, Connect]]:
    """Those that are installed."""
    from tests.integration import mariadb, postgres

    with ExitStack() as stack:
        found: dict[str, Connect] = {}
        if (programs := postgres._programs()) is not None:
            import psycopg

            server = stack.enter_context(postgres.postgres_server(programs))
            found["PostgreSQL"] = lambda: psycopg.connect(server.uri)
        if (others := mariadb.programs_of_mariadb()) is not None:
            import pymysql

            other = stack.enter_context(mariadb.mariadb_server(*others))
            other.run("CREATE DATABASE benchmark")
            found["MariaDB"] = lambda: pymysql.connect(
                host=other.host, port=other.port, user=mariadb.USER, database="benchmark", charset="utf8mb4"
            )
        yield found


def load(connect: Connect, windows: list[ExportedWindow], table: str) -> float:
    started = time.perf_counter()
    with closing(connect()) as connection:
        loading = TableLoad(
            database_of(connection, "the benchmark's"), TableName((table,)), metadata_columns={"distance": "double"}
        )
        for window in windows:
            loading.load(window)
    return time.perf_counter() - started


def dlt_load(polar: LocalPolar, folder: Path) -> float | None:
    """The same events by dlt's REST source, from the server into DuckDB: the time of reading cannot be told apart."""
    try:
        import dlt
        from dlt.sources.rest_api import rest_api_source
    except ImportError:
        return None
    source = rest_api_source(
        {
            "client": {"base_url": f"{polar.base_url}/v1/", "auth": {"type": "bearer", "token": polar.token}},
            "resources": [
                {
                    "name": "events",
                    "endpoint": {
                        "path": "events/",
                        "params": {"limit": 100, "sorting": "timestamp"},
                        "data_selector": "items",
                        "paginator": {"type": "page_number", "base_page": 1, "total_path": "pagination.max_page"},
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline(
        "polar", destination=dlt.destinations.duckdb(str(folder / "dlt.duckdb")), pipelines_dir=str(folder / "dlt")
    )
    started = time.perf_counter()
    pipeline.run(source)
    return time.perf_counter() - started


def main(number: int) -> None:
    with tempfile.TemporaryDirectory() as name, LocalPolar() as polar, servers() as found:
        folder = Path(name)
        seed(polar, number)
        targets = {"SQLite": sqlite(folder), "DuckDB": duckdb(folder), **found}
        for file_format in ("jsonl", "parquet"):
            started = time.perf_counter()
            windows = exports(polar, folder, file_format)
            exported = time.perf_counter() - started
            print(f"export of {number:,} events as {file_format}: {number / exported:,.0f} events a second")
            for title, connect in targets.items():
                seconds = load(connect, windows, f"events_{file_format}")
                again = load(connect, windows, f"events_{file_format}")
                print(
                    f"  into {title}: {number / seconds:,.0f} events a second ({seconds:.1f} s), "
                    f"the same again {again:.2f} s"
                )
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory {megabytes:,.0f} MB, the local Polar's included")
        seconds_of_dlt = dlt_load(polar, folder)
        if seconds_of_dlt is None:
            print("dlt is not installed")
        else:
            print(f"dlt, from the server into DuckDB: {number / seconds_of_dlt:,.0f} events a second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
