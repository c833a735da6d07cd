"""A client by the contract of the acceptance suite: ``python -P run.py ADAPTER list|sync|ingest|version ...``.

It runs in the client's own environment, which has neither this provider nor its neighbours: an adapter is a file beside
this one with the functions ``list_events``, ``sync`` and ``ingest``, as far as the client offers them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

NOT_OFFERED = 3


def load(name: str) -> Any:
    """An adapter, whatever package has the same name."""
    spec = spec_from_file_location(f"adapter_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    # A client may look for the module of a function of the adapter.
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapter")
    parser.add_argument("command", choices=["list", "sync", "ingest", "version"])
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--state")
    given = parser.parse_args(arguments)
    adapter = load(given.adapter)
    if given.command == "version":
        print(version(adapter.DISTRIBUTION))
        return 0
    work = getattr(adapter, "list_events" if given.command == "list" else given.command, None)
    if work is None:
        return NOT_OFFERED
    server = (os.environ["POLAR_BASE_URL"], os.environ["POLAR_ACCESS_TOKEN"])
    output = sys.stdout
    # What a client tells of its work is no output.
    with contextlib.redirect_stdout(sys.stderr):
        if given.command == "ingest":
            work(*server, map(json.loads, sys.stdin))
            return 0
        state = {"state": given.state} if given.command == "sync" else {}
        for event in work(*server, given.start, given.end, **state):
            print(json.dumps(event, default=str), file=output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
