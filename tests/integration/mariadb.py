"""A MariaDB server of the tests' own: a new data directory in a temporary folder, gone at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER = "tests"


@dataclass(frozen=True)
class MariaDb:
    """A running server; ``USER`` connects by TCP without a password, and ``run`` is its administrator."""

    client: str
    socket: Path
    host: str
    port: int

    def run(self, sql: str) -> str:
        """What the client prints of the statements, fields with a tab between; raises where one fails."""
        command = [self.client, "--no-defaults", f"--socket={self.socket}", "--user=root", "--batch", "-N"]
        done = subprocess.run(command, input=sql, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


def programs_of_mariadb() -> list[str] | None:
    """The server, what makes a data directory, and the client; None where one is missing."""
    path = os.environ["PATH"] + ":/usr/sbin"
    found = [shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db", "mariadb")]
    return [program for program in found if program] if all(found) else None


@contextmanager
def mariadb_server(server: str, install: str, client: str, *options: str) -> Iterator[MariaDb]:
    """Starts a server on a free port, as the user ``mysql`` where the tests are root.

    :param options: of the server, besides.
    """
    user = "mysql" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="mariadb-", ignore_cleanup_errors=True) as name:
        home, data = Path(name), Path(name) / "data"
        if user:
            shutil.chown(home, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        setup = [
            install,
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]
        done = subprocess.run(setup, cwd=home, user=user, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        log = home / "log"
        command = [
            *(
                server,
                "--no-defaults",
                f"--datadir={data}",
                f"--socket={home / 'socket'}",
                f"--pid-file={home / 'pid'}",
            ),
            *("--bind-address=127.0.0.1", f"--port={port}", f"--log-error={log}", "--skip-name-resolve"),
            "--innodb-flush-log-at-trx-commit=0",
            *options,
        ]
        process = subprocess.Popen(command, cwd=home, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running = MariaDb(client, home / "socket", "127.0.0.1", port)
        try:
            deadline = time.monotonic() + 100
            while not (home / "socket").exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            account = f"{USER}@'127.0.0.1'"
            running.run(f"CREATE USER {account}; GRANT ALL ON *.* TO {account} WITH GRANT OPTION")
            yield running
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """The session's MariaDB; what asks for it is skipped where none is installed."""
    programs = programs_of_mariadb()
    if programs is None:
        pytest.skip("MariaDB is not installed (mariadbd, mariadb-install-db): nothing is loaded into it here")
    with mariadb_server(*programs) as running:
        yield running
