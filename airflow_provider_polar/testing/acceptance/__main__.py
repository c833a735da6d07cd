"""Lets clients of Polar's Events API run into every trap of that API, and prints a table of what came of it.

A client is one of the known ones, which are installed in environments of their own in the working directory, or any
command that keeps to the contract that this package describes. The exit status is 1 if one of them lost an event, had
it twice or failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_polar.testing.acceptance import traps  # noqa: F401
from airflow_provider_polar.testing.acceptance.clients import PEERS, Client, client_of
from airflow_provider_polar.testing.acceptance.table import MODULE, Result, table
from airflow_provider_polar.testing.acceptance.trap import TRAPS, spring


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {name:32}{function.__doc__}" for name, function in TRAPS.items())
    parser = argparse.ArgumentParser(
        prog=MODULE,
        description=__doc__,
        epilog=f"traps:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--client", action="append", metavar="CLIENT", help=f"{', '.join(PEERS)} or a command; default ours"
    )
    parser.add_argument("--trap", action="append", choices=list(TRAPS), metavar="TRAP", help="default all, see below")
    parser.add_argument("--seed", type=int, default=1, help="decides what a trap leaves open; default 1")
    parser.add_argument("--json", action="store_true", help="prints JSON in place of the table")
    return parser


def run(client: Client, names: Sequence[str], seed: int) -> list[Result]:
    """One client in each of the traps."""
    results = []
    for name in names:
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="acceptance-") as folder:
            verdict = spring(client, name, seed, Path(folder))
        results.append(Result(client.name, name, seed, verdict, time.monotonic() - started))
        print(f"{client.name}, {name}: {verdict.text}", file=sys.stderr, flush=True)
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    clients = [client_of(text, Path.cwd()) for text in given.client or ["ours"]]
    versions = {client.name: client.version() for client in clients}
    results = [result for client in clients for result in run(client, given.trap or list(TRAPS), given.seed)]
    if given.json:
        about = {"date": datetime.now(UTC).date().isoformat(), "versions": versions}
        print(json.dumps({**about, "results": [result.to_dict() for result in results]}, indent=1))
    else:
        print(table(results, versions))
    return 0 if all(result.verdict.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
