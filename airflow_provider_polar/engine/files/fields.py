"""The fields of an exported event, their fixed order, and the choice among them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from airflow_provider_polar.api.models import Event
from airflow_provider_polar.exceptions import PolarConfigurationError

EVENT_FIELDS = tuple(Event.model_fields)
"""The top-level fields of an event, in the API's order."""
EXTRA = "extra"
"""Stands for all fields that the API has added since: in ``jsonl`` they follow the known ones under their own
names, sorted; in ``csv`` and ``parquet`` they are one column of this name with a JSON object."""


@dataclass(frozen=True, slots=True)
class FieldChoice:
    """Which fields an export keeps.

    :param known: the known fields kept, in the API's order.
    :param extra: whether fields that are not known are kept.
    """

    known: tuple[str, ...] = EVENT_FIELDS
    extra: bool = True

    @classmethod
    def choose(cls, include: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> Self:
        """All fields, only the included, or all but the excluded ones.

        A name that is not known is refused: a misspelt exclusion would let personal data through.

        :raises PolarConfigurationError: both are given, a name is unknown, or nothing is left.
        """
        if include is not None and exclude is not None:
            raise PolarConfigurationError("give include_fields or exclude_fields, not both")
        for what, names in (("include_fields", include), ("exclude_fields", exclude)):
            if isinstance(names, str) or not isinstance(names, Collection | None):
                raise PolarConfigurationError(f"{what} is {names!r}; it is a list of field names")
            unknown = [name for name in names or () if name not in (*EVENT_FIELDS, EXTRA)]
            if unknown:
                raise PolarConfigurationError(
                    f"{what} names {unknown[0]!r}, which is no field of an event; known are "
                    f"{', '.join(EVENT_FIELDS)}, and {EXTRA} for all that Polar has added since"
                )
        names = (*EVENT_FIELDS, EXTRA)
        kept = [n for n in names if (include is None or n in include) and (exclude is None or n not in exclude)]
        if not kept:
            raise PolarConfigurationError("include_fields or exclude_fields leave no field to export")
        return cls.of_columns(kept)

    @classmethod
    def of_columns(cls, columns: Sequence[str]) -> Self:
        """The choice that has these :attr:`columns`."""
        return cls(tuple(name for name in columns if name != EXTRA), EXTRA in columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table: known fields and, at the end, the extra ones as one."""
        return (*self.known, EXTRA) if self.extra else self.known

    def keeps(self, field: str) -> bool:
        """Whether a field of an event is in the files, under its name or among the extra ones."""
        return field in self.known or (self.extra and field not in EVENT_FIELDS)
