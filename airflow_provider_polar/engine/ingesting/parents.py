"""Parents that events of a run name: Polar accepts an unknown one, and hides the event until it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from airflow_provider_polar.api.client import PolarClient
from airflow_provider_polar.exceptions import PolarNotFoundError

_REMEDY = (
    "the event would stay invisible until its parent arrives: if an earlier run has sent that, or a later one will, "
    "set unknown_parents='accept'"
)
_VISIBLE_WITHIN = (1.0, 2.0, 4.0)
"""Seconds to wait, one after the other, for a parent that may be new."""


def missing_parents(
    parents: Iterable[str],
    client: Callable[[], PolarClient],
    *,
    accept_unknown: bool,
    max_concurrency: int,
    log: Any,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, str]:
    """Which of the parents are not there, with the reason in words.

    :param parents: ``parent_id`` values that are no event of the run; Polar is requested for its event ids, one by one.
    :param accept_unknown: take all of them on trust, without a request.
    """
    if accept_unknown:
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
        if _is_uuid(parent):
            ids.append(parent)
        else:
            missing[parent] = f"is no valid event of this run, and Polar has no look-up by external_id; {_REMEDY}"
    for pause in (*_VISIBLE_WITHIN, None):
        ids = _not_found(ids, client, max_concurrency)
        if not ids or pause is None:
            break
        sleep(pause)
    for parent in ids:
        missing[parent] = f"is neither an event at Polar nor a valid one of this run; {_REMEDY}"
    return missing


def _not_found(ids: list[str], client: Callable[[], PolarClient], max_concurrency: int) -> list[str]:
    if not ids:
        return []
    polar = client()

    def is_missing(parent: str) -> bool:
        try:
            polar.get(parent)
        except PolarNotFoundError:
            return True
        return False

    with ThreadPoolExecutor(max_concurrency) as pool:
        return [parent for parent, gone in zip(ids, pool.map(is_missing, ids), strict=True) if gone]


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
