"""`python -m airflow_provider_polar.testing`: a local Polar in a process of its own, until SIGTERM or SIGINT.

With `-- COMMAND ...` it lives as long as the command, which finds it in the Airflow connection `polar_default`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from airflow_provider_polar.testing.local import LocalPolar


def _rate_limit(text: str) -> tuple[int, float]:
    requests, _, seconds = text.partition("/")
    try:
        return int(requests), float(seconds or 60)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not REQUESTS/SECONDS, such as 100/60") from None


def _lag(text: str) -> float | tuple[float, float]:
    earliest, dash, latest = text.partition("-")
    try:
        return (float(earliest), float(latest)) if dash else float(earliest)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not SECONDS or FROM-TO, such as 0.4-1.6") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_polar.testing", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--token", default="polar_oat_test", help="the access token to accept")
    parser.add_argument("--database", metavar="PATH", help="SQLite file that outlives the server")
    parser.add_argument("--seed", action="store_true", help="fill an empty server with demo events")
    parser.add_argument("--environment", choices=["sandbox", "production"], default="sandbox")
    parser.add_argument("--visibility-lag", type=_lag, default=0.0, metavar="S", help="seconds, or 0.4-1.6")
    parser.add_argument("--rate-limit", type=_rate_limit, metavar="N/SECONDS", help="such as 100/60")
    parser.add_argument("--bounds", choices=["millisecond", "second"], default="millisecond")
    parser.add_argument("--cost", choices=["polar"], help="take the time that Polar's own server takes")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND", help="run this, and then stop")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with LocalPolar(
        given.token,
        port=given.port,
        database=given.database,
        environment=given.environment,
        visibility_lag=given.visibility_lag,
        rate_limit=given.rate_limit,
        bounds=given.bounds,
        cost=given.cost,
        seed="demo" if given.seed else None,
    ) as polar:
        print(f"Local Polar at {polar.base_url}, organization {polar.organization_id}")
        print(f"export AIRFLOW_CONN_POLAR_DEFAULT='{polar.connection_uri()}'", flush=True)
        if given.command:
            environment = {**os.environ, "AIRFLOW_CONN_POLAR_DEFAULT": polar.connection_uri()}
            return subprocess.run(given.command, env=environment, check=False).returncode
        stop.wait()
        return 0


if __name__ == "__main__":
    sys.exit(main())
