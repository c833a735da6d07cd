"""Whom a client under acceptance tries to reach beside its Polar. Nothing of it leaves the machine."""

from __future__ import annotations

import os
import socketserver
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_GUARD = Path(__file__).parent / "guard"


class _Proxy(socketserver.ThreadingTCPServer):
    """Refuses every request, and writes down whose it is."""

    daemon_threads = True

    def __init__(self, hosts: str) -> None:
        super().__init__(("127.0.0.1", 0), _Refusal)
        self.hosts = hosts


class _Refusal(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        target = self.rfile.readline().decode("latin-1").split()[1:2]
        if target:
            host = urlsplit(target[0] if "://" in target[0] else f"//{target[0]}").hostname
            with open(self.server.hosts, "a") as file:
                file.write(f"{host}\n")
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class OtherHosts:
    """A proxy for everything but this machine; a context manager.

    A client that uses no proxy meets, if it is written in Python, a guard in its own process, which refuses as well.
    """

    def __init__(self) -> None:
        self._file = tempfile.NamedTemporaryFile("r", prefix="acceptance-hosts-")  # noqa: SIM115
        self._proxy = _Proxy(self._file.name)

    def __enter__(self) -> Self:
        threading.Thread(target=self._proxy.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._file.close()

    def tried(self) -> list[str]:
        """The hosts that the client tried to reach, each once."""
        return sorted(set(Path(self._file.name).read_text().split()))

    def environment(self) -> dict[str, str]:
        """What the client's process gets, beside the environment that there is."""
        address = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), address) | {"NO_PROXY": "127.0.0.1"}
        return {
            **proxies,
            **{name.lower(): value for name, value in proxies.items()},
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_GUARD), os.environ.get("PYTHONPATH")))),
            "POLAR_ACCEPTANCE_HOSTS": self._file.name,
        }
