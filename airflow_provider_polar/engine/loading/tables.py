"""Names of tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_polar.exceptions import PolarConfigurationError

_PART = r'(?:"(?:[^"\0]|"")+"|[^".\0]+)'
_NAME = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")


@dataclass(frozen=True, slots=True)
class TableName:
    """A table.

    :param parts: its name, with the schema (and the database) before it where they are given.
    """

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: Any, name: str = "table") -> Self:
        """Reads ``table``, ``schema.table`` or ``database.schema.table``; a part with a dot stands in double quotes.

        :param name: the parameter's name, for the error.
        :raises PolarConfigurationError: it is no such name.
        """
        if not isinstance(text, str) or not _NAME.fullmatch(text.strip()):
            raise PolarConfigurationError(f"{name} is {text!r}; it is a table's name, such as events or usage.events")
        parts = re.findall(_PART, text.strip())
        return cls(tuple(part[1:-1].replace('""', '"') if part.startswith('"') else part.strip() for part in parts))

    def __str__(self) -> str:
        return ".".join(self.parts)

    @property
    def name(self) -> str:
        """The table's own name."""
        return self.parts[-1]

    def beside(self, name: str) -> TableName:
        """Another table of the same schema."""
        return TableName((*self.parts[:-1], name))
