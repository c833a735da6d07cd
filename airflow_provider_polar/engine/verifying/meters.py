"""Which meters are verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_polar.engine.metering.quantities import Meter
from airflow_provider_polar.exceptions import PolarConfigurationError
from airflow_provider_polar.wording import did_you_mean


def choose_meters(there: Sequence[Mapping[str, Any]], wanted: Sequence[str] | None) -> list[Meter]:
    """The meters that some ids or names mean, each once; without those, every one that is not archived.

    A name means a meter that is not archived, if there is such one.

    :param there: the organization's meters, as the API gives them.
    :raises PolarConfigurationError: there is no such meter, or none at all, a name is that of several, or a meter
        cannot be evaluated here. A retry does not help.
    """
    current = [meter for meter in there if meter["archived_at"] is None]
    if wanted is None:
        if not current:
            raise PolarConfigurationError("the organization has no meter that is not archived, so nothing is billed")
        return [Meter.parse(meter) for meter in current]
    chosen: dict[str, Meter] = {}
    for text in wanted:
        found = [meter for meter in there if meter["id"] == text]
        found = found or [meter for meter in current if meter["name"] == text]
        found = found or [meter for meter in there if meter["name"] == text]
        if not found:
            near = did_you_mean(text, [meter["name"] for meter in there])
            raise PolarConfigurationError(f"meters names {text!r}: the organization has no such meter{near}")
        if len(found) > 1:
            ids = ", ".join(meter["id"] for meter in found)
            raise PolarConfigurationError(
                f"meters names {text!r}, and {len(found)} have this name: give one of the ids {ids}"
            )
        chosen[found[0]["id"]] = Meter.parse(found[0])
    return list(chosen.values())
