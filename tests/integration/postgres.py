"""A PostgreSQL server of the tests' own: a new data directory in a temporary folder, gone at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = DATABASE = "tests"


@dataclass(frozen=True)
class Postgres:
    """A running server; everybody on this host may connect as ``USER``, without a password."""

    psql: str
    host: str
    port: int

    @property
    def uri(self) -> str:
        return f"postgresql://{USER}@{self.host}:{self.port}/{DATABASE}"

    def run(self, sql: str) -> str:
        """What ``psql`` prints of the statements: rows as lines, fields with ``|`` between; raises where one fails."""
        command = [self.psql, "-XqAt", "-v", "ON_ERROR_STOP=1", self.uri]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda it: int(it.parts[-3]))
    path = shutil.which("initdb") or (found[-1] if found else None)
    return None if path is None else Path(path).resolve().parent


@contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """Starts a server on a free port; PostgreSQL refuses to run as root, and runs as the user ``postgres`` then."""
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as name:
        home, data = Path(name), Path(name) / "data"
        if user:
            shutil.chown(home, user)

        def call(*command: object) -> None:
            done = subprocess.run(
                [*map(str, command)], cwd=home, user=user, capture_output=True, timeout=120, check=False
            )
            assert done.returncode == 0, (home / "log").read_text() if (home / "log").exists() else done.stderr.decode()

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        call(programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = f"-c fsync=off -c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
        call(programs / "pg_ctl", "-D", data, "-l", home / "log", "-o", settings, "-w", "-t", 100, "start")
        try:
            call(programs / "createdb", "-h", "127.0.0.1", "-p", port, "-U", USER, DATABASE)
            yield Postgres(str(programs / "psql"), "127.0.0.1", port)
        finally:
            call(programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL; what asks for it is skipped where none is installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (initdb): nothing here is compared with it")
    with postgres_server(programs) as server:
        yield server
