"""Found by every Python process of a client under acceptance: it reaches no other host, and what it tried is kept."""

import os
import sys

_LOCAL = ("127.0.0.1", "localhost", "::1", "", None)


def _watch(event: str, arguments: tuple) -> None:  # type: ignore[type-arg]
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in _LOCAL:
        with open(os.environ["POLAR_ACCEPTANCE_HOSTS"], "a") as file:
            file.write(f"{host}\n")
        raise ConnectionRefusedError(f"a client under acceptance reaches no other host than its Polar, not {host}")


sys.addaudithook(_watch)
