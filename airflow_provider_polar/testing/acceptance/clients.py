"""The clients under acceptance: commands, those of known peers in environments of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_polar.testing.acceptance.adapters.run import NOT_OFFERED

PEERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours": ("ours", ()),
    "polar-sdk": ("polar_sdk", ("polar-sdk==1.0.2",)),
    "polar-sdk-metering": ("polar_sdk_metering", ("polar-sdk==1.0.3a5",)),
    "dlt": ("dlt", ("dlt[filesystem]==1.31.0",)),
    "airbyte-cdk": ("airbyte_cdk", ("airbyte-cdk==7.39.0",)),
}
"""The adapter of each known client, and what is installed for it; nothing for this provider."""
PATIENCE = 300.0
"""Seconds after which a command that has not ended has failed."""
_RUN = Path(__file__).parent / "adapters" / "run.py"


class ClientFailed(Exception):
    """The client's command ended with an error, or not at all; the text is the last line that it wrote about that."""


class NotOffered(Exception):
    """The client does not offer what it was told to do."""


@dataclass(frozen=True)
class Client:
    """A command that keeps to the contract of this package, and the name under which it is known."""

    name: str
    command: Sequence[str]

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], given: str = "") -> str:
        """The output of the command.

        :raises ClientFailed: it ends with an error, or does not end.
        :raises NotOffered: it says so.
        """
        try:
            done = subprocess.run(
                [*self.command, *arguments],
                input=given,
                capture_output=True,
                text=True,
                env={**os.environ, **environment},
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ClientFailed(f"it has not ended after {PATIENCE:.0f} s") from None
        except OSError as error:
            raise ClientFailed(f"it does not start: {error}") from error
        if done.returncode == NOT_OFFERED:
            raise NotOffered
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise ClientFailed(lines[-1].strip()[:200])
        return done.stdout

    def version(self) -> str:
        """What the client says of itself, empty if it says nothing."""
        try:
            return self.run(["version"], {}).strip()
        except (ClientFailed, NotOffered):
            return ""


def client_of(text: str, environments: Path) -> Client:
    """A known client, in an environment that is made where there is none yet, or any other command.

    :param environments: the folder below which the environments of known clients are.
    :raises subprocess.CalledProcessError: a client cannot be installed.
    """
    if text not in PEERS:
        return Client(text, shlex.split(text))
    adapter, packages = PEERS[text]
    python = _python(environments / f".venv-acceptance-{text}", packages) if packages else sys.executable
    # Safe path: an adapter may have the name of the package that it is for.
    return Client(text, [str(python), "-P", str(_RUN), adapter])


def _python(folder: Path, packages: Sequence[str]) -> Path:
    """The interpreter of an environment with these packages, kept for the next time."""
    python, installed = folder / "bin" / "python", folder / "installed"
    if not installed.exists() or installed.read_text() != " ".join(packages):
        print(f"installing {' '.join(packages)} in {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        installed.write_text(" ".join(packages))
    return python
