"""Parents that events of a run name: Polar accepts an unknown one, and hides the event until it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.exceptions import PolarNotFoundError

_REMEDY = (
    "the event would stay invisible until its parent arrives: if an earlier run has sent that, or a later one will, "
    "set unknown_parents='accept'"
)
_VISIBLE_WITHIN = (1.0, 2.0, 4.0)
"""Seconds to wait, one after the other, for a parent that may be new."""


def missing_parents(
    parents: Iterable[str], client: Callable[[], PolarClient], options: IngestOptions, log: Any
) -> dict[str, str]:
    """Which of the parents are not there, with the reason in words.

    :param parents: ``parent_id`` values that are no event of the run; Polar is requested for its event ids, one by one,
        unless they are all to be accepted.
    """
    if options.unknown_parents == "accept":
        if trusted := sum(1 for _ in parents):
            log.warning(
                "%s parents are not in this run and are taken on trust; their children stay invisible at Polar until "
                "they are there.",
                f"{trusted:,}",
            )
        return {}
    ids: list[str] = []
    missing: dict[str, str] = {}
    for parent in parents:
        try:
            UUID(parent)
            ids.append(parent)
        except ValueError:
            missing[parent] = f"is no valid event of this run, and Polar has no look-up by external_id; {_REMEDY}"
    if ids:
        with ThreadPoolExecutor(options.max_concurrency) as pool:
            for pause in (0.0, *_VISIBLE_WITHIN):
                time.sleep(pause)
                found = pool.map(_exists, [client()] * len(ids), ids)
                ids = [parent for parent, is_there in zip(ids, found, strict=True) if not is_there]
                if not ids:
                    break
    for parent in ids:
        missing[parent] = f"is neither an event at Polar nor a valid one of this run; {_REMEDY}"
    return missing


def _exists(client: PolarClient, event_id: str) -> bool:
    try:
        client.get(event_id)
    except PolarNotFoundError:
        return False
    return True
