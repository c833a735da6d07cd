"""What came of clients in traps, as a table and as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_polar.testing.acceptance.trap import Verdict

MODULE = "python -m airflow_provider_polar.testing.acceptance"


@dataclass(frozen=True)
class Result:
    """What came of a client in a trap."""

    client: str
    trap: str
    seed: int
    verdict: Verdict
    seconds: float

    @property
    def command(self) -> str:
        """The command that repeats it."""
        return f"{MODULE} --client {shlex.quote(self.client)} --trap {self.trap} --seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON."""
        return {
            "client": self.client,
            "trap": self.trap,
            "seed": self.seed,
            "verdict": self.verdict.text,
            **asdict(self.verdict),
            "seconds": round(self.seconds, 1),
            "command": self.command,
        }


def table(results: Sequence[Result], versions: Mapping[str, str]) -> str:
    """Clients by traps, as Markdown that is also read well as it is; below it, how to repeat what failed."""
    clients = list(dict.fromkeys(result.client for result in results))
    found = {(result.client, result.trap): result.verdict.text for result in results}
    rows = [["trap", *(f"{client} {versions.get(client, '')}".strip() for client in clients)]]
    for trap in dict.fromkeys(result.trap for result in results):
        rows.append([trap, *(found.get((client, trap), "") for client in clients)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    for result in results:
        if not result.verdict.passed:
            why = f" ({result.verdict.detail})" if result.verdict.detail else ""
            lines += ["", f"{result.client}, {result.trap}: {result.verdict.text}{why}", f"  {result.command}"]
    return "\n".join(lines)
