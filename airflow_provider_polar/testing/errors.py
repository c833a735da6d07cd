"""The refusals of the local Polar, worded as Polar words them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


class Invalid(Exception):
    """Becomes a 422 with Polar's list of what is wrong."""

    def __init__(self, detail: list[dict[str, Any]], error: str = "RequestValidationError") -> None:
        super().__init__(f"{error}: {len(detail)} problem(s)")
        self.body = {"error": error, "detail": detail}

    @classmethod
    def from_pydantic(cls, error: ValidationError, *where: str, with_url: bool = False) -> Invalid:
        """Pydantic's own list, each location under `where`."""
        problems = error.errors(include_url=with_url)
        return cls([{**problem, "loc": [*where, *problem["loc"]]} for problem in problems])


class BrokenAnalytics(Exception):
    """Becomes a 500: the analytics store is down."""


class ServerError(Exception):
    """Becomes a 500: what the real server stumbles over. Nothing has been stored."""
