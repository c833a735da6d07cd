"""Ingests of a query, each attempt a process of its own, to be killed: ``ingest_query_worker.py BASE_URL TOKEN``.

A line ``DATABASE DIRECTORY RUN KEY`` of its input starts an attempt, whose process id is told and, once it has ended,
its status; an empty line ends it. KEY is ``-`` for none.
"""

from __future__ import annotations

import os
import sqlite3
import sys

from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.retrying import Retries
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.ingesting.identity import run_scope, task_scope
from airflow_provider_polar.engine.ingesting.ingest import Ingest
from airflow_provider_polar.engine.ingesting.keys import KeyedRows
from airflow_provider_polar.engine.ingesting.mapping import EventMapping
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.query import Query, rows_of_query
from airflow_provider_polar.engine.ingesting.snapshot import Snapshot

MAPPING = {
    "name": {"const": "call.made"},
    "external_customer_id": "customer",
    "metadata": {"id": "id", "amount": "amount"},
}


def attempt(base_url: str, token: str, database: str, directory: str, run: str, key: str) -> None:
    mapping = EventMapping(MAPPING)
    scope = run_scope("dag", "task", run, -1) if key == "-" else task_scope("dag", "task")
    to_event = mapping if key == "-" else KeyedRows([key], scope, mapping)
    query = Query("SELECT id, customer, amount FROM usage ORDER BY random()")
    rows = rows_of_query(lambda: sqlite3.connect(database), query, "the test's database", to_event.check_columns)
    snapshot = Snapshot(Directory(UPath(f"file://{directory}")), scope, run, keep=True)
    with PolarClient(token, base_url=base_url, retries=Retries(6, 0.01, 0.1)) as client:
        options = IngestOptions(scope, batch_size=20, owner=run)
        Ingest(lambda: client, options).run(rows, mapping=to_event, snapshot=snapshot)


def main(base_url: str, token: str) -> None:
    while line := sys.stdin.readline():
        pid = os.fork()
        if not pid:
            attempt(base_url, token, *line.split())
            os._exit(0)
        print(pid, flush=True)
        # Its id is free for another process only when the status has been read.
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        print(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status, flush=True)
        sys.stdin.readline()
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
