"""An export in a process of its own, for the tests that kill it."""

from __future__ import annotations

import json
import sys

from upath import UPath

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.api.filters import EventFilters
from airflow_provider_polar.events.exporting.export import WindowExport
from airflow_provider_polar.events.exporting.storage import Directory
from airflow_provider_polar.events.exporting.writers import FileLayout
from airflow_provider_polar.events.reading.driver import CompleteReader
from airflow_provider_polar.events.window import EventWindow

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    directory = Directory(UPath(job["url"], **job["options"]))
    window = EventWindow.from_dict(job["window"])
    with PolarClient(job["token"], base_url=job["base_url"]) as client:
        reader = CompleteReader(client, EventFilters())
        WindowExport(reader, directory, window, EventFilters(), FileLayout(), target_rows=job["target_rows"]).run()
    print(client.requests_sent)
