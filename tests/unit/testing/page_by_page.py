"""A client as one writes it first: it reads page by page, and sends a batch again as it is when no response comes."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import sys
import urllib.parse
import urllib.request
from typing import Any


def send(path: str, body: bytes | None = None) -> Any:
    headers = {"Authorization": f"Bearer {os.environ['POLAR_ACCESS_TOKEN']}", "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["POLAR_BASE_URL"] + path, body, headers)
    for _ in range(4):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return receive(request)
    return receive(request)


def receive(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    for option in ("--start", "--end", "--state"):
        parser.add_argument(option)
    given = parser.parse_args()
    if given.command == "ingest":
        events = [json.loads(line) for line in sys.stdin]
        while batch := events[:1000]:
            send("/v1/events/ingest", json.dumps({"events": batch}).encode())
            del events[:1000]
        return 0
    if given.command != "list":
        return 3
    page = pages = 1
    while page <= pages:
        bounds = {"start_timestamp": given.start, "end_timestamp": given.end}
        query = urllib.parse.urlencode({**bounds, "limit": 100, "sorting": "timestamp", "page": page})
        response = send(f"/v1/events/?{query}")
        for event in response["items"]:
            print(json.dumps(event))
        page, pages = page + 1, response["pagination"]["max_page"]
    return 0


if __name__ == "__main__":
    sys.exit(main())
