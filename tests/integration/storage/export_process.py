"""An export in a process of its own, for the tests that kill it."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.engine.exporting.export import WindowExport
from airflow_provider_polar.engine.files.layout import FileLayout
from airflow_provider_polar.engine.files.storage import Directory
from airflow_provider_polar.engine.reading.reader import CompleteReader
from airflow_provider_polar.engine.window import EventWindow


def die_at(number: int) -> None:
    """Makes the n-th operation that changes the store the last one: the process is killed before the next."""
    done = 0

    def counted(operation: str) -> None:
        original = getattr(Directory, operation)

        def run(self: Directory, *args: Any) -> Any:
            nonlocal done
            if done >= number:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return original(self, *args)

        setattr(Directory, operation, run)

    for operation in ("write", "upload", "copy", "remove"):
        counted(operation)


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    if "die_at" in job:
        die_at(job["die_at"])
    directory = Directory(UPath(job["url"], **job["options"]))
    window = EventWindow.from_dict(job["window"])
    with PolarClient(
        job["token"], base_url=job["base_url"], requests_per_minute=job.get("requests_per_minute", 500)
    ) as client:
        reader = CompleteReader(client, EventFilters())
        WindowExport(reader, directory, window, EventFilters(), FileLayout(), target_rows=job["target_rows"]).run()
    print(client.requests_sent)
