"""Rows of PostgreSQL to Polar: ``python -m benchmarks.ingest_sql [--rows 1000000] [CLIENT ...]``.

A PostgreSQL server of its own holds the rows; Polar is a process that stores nothing and responds at once with the
right counts. Each client is a process of its own, whose peak memory is told beside events a second.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.costing import serving
from benchmarks.ingest_clients import peak_mb

BATCH = 1000
SQL = "SELECT id, customer, moment, distance FROM usage_rows"
FILL = (
    "CREATE TABLE usage_rows AS SELECT n AS id, 'customer-' || n % 997 AS customer, n % 900 + 0.5 AS distance, "
    "timestamptz '2026-01-01Z' + n * interval '1 millisecond' AS moment FROM generate_series(1, {rows}) AS n;"
)
MAPPING = {
    "name": {"const": "flight.departed"},
    "external_customer_id": "customer",
    "timestamp": "moment",
    "metadata": {"id": "id", "distance": {"column": "distance", "type": "float"}},
}


def _ours(job: dict[str, Any], **options: Any) -> None:
    from types import SimpleNamespace

    from airflow_provider_polar.operators.ingest import PolarIngestEventsOperator

    ti: Any = SimpleNamespace(dag_id="benchmark", task_id="ingest", run_id="run", map_index=-1)
    polar = {"conn_type": "polar", "host": job["url"], "password": "polar_oat_benchmark"}
    warehouse = {"conn_type": "postgres", "host": job["host"], "port": job["port"], "login": "tests", "schema": "tests"}
    os.environ |= {
        "AIRFLOW_CONN_POLAR_DEFAULT": json.dumps(polar),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps(warehouse),
    }
    PolarIngestEventsOperator(
        task_id="ingest", sql=SQL, sql_conn_id="warehouse", mapping=MAPPING, requests_per_minute=1_000_000, **options
    ).execute({"ti": ti})


def key(job: dict[str, Any]) -> None:
    """This provider, by key."""
    _ours(job, key="id")


def key_and_snapshot(job: dict[str, Any]) -> None:
    """This provider, by key and with a snapshot."""
    _ours(job, key="id", snapshot_path=f"file://{job['folder']}")


def polar_sdk(job: dict[str, Any]) -> None:
    """Polar's SDK behind a cursor on the server, as somebody would write it who knows of both."""
    import psycopg
    from polar.v2026_04 import Polar

    with (
        psycopg.connect(host=job["host"], port=job["port"], user="tests", dbname="tests") as connection,
        connection.cursor("rows") as cursor,
        Polar("polar_oat_benchmark", base_url=job["url"], timeout=30) as polar,
    ):
        cursor.execute(SQL)
        while rows := cursor.fetchmany(BATCH):
            polar.events.ingest(
                events=[
                    {
                        "name": "flight.departed",
                        "external_customer_id": customer,
                        "timestamp": moment.isoformat(),
                        "external_id": f"usage-{id_}",
                        "metadata": {"id": id_, "distance": float(distance)},
                    }
                    for id_, customer, moment, distance in rows
                ]
            )


CLIENTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "key": key,
    "key_and_snapshot": key_and_snapshot,
    "polar_sdk": polar_sdk,
}


def _counts(_head: bytes, body: bytes) -> bytes:
    return json.dumps({"inserted": body.count(b'"external_id":'), "duplicates": 0}).encode()


def _measure(client: str, job: dict[str, Any], rows: int) -> None:
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        quiet = {"AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
        command = [
            sys.executable,
            "-m",
            "benchmarks.ingest_sql",
            "--client",
            client,
            json.dumps(job | {"folder": folder}),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | quiet, check=False)
    if done.returncode:
        print(f"{client}: failed: {done.stderr.strip().splitlines()[-1]}")
        return
    seconds, cpu, peak = json.loads(done.stdout.strip().splitlines()[-1])
    rate, of_cpu = rows / seconds, rows / cpu
    print(f"{client}: {seconds:,.1f} s, {rate:,.0f} events a second, {of_cpu:,.0f} of processor time, {peak:.0f} MB")


def main() -> None:
    """Prints each client's figures."""
    if sys.argv[1:2] == ["--client"]:
        started, before = time.monotonic(), time.process_time()
        CLIENTS[sys.argv[2]](json.loads(sys.argv[3]))
        print(json.dumps([time.monotonic() - started, time.process_time() - before, peak_mb()]))
        return
    from tests.integration.postgres import _programs, postgres_server

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("clients", nargs="*", default=list(CLIENTS), metavar="CLIENT")
    given = parser.parse_args()
    programs = _programs()
    if programs is None:
        sys.exit("PostgreSQL is not installed (initdb)")
    with postgres_server(programs) as postgres, serving(_counts) as url:
        postgres.run(FILL.format(rows=given.rows))
        for client in given.clients:
            _measure(client, {"url": url, "host": postgres.host, "port": postgres.port}, given.rows)


if __name__ == "__main__":
    main()
