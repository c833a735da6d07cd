"""Turns of phrase that messages share."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A near miss as a remark, such as `` (did you mean environment?)``; "" where no known name is near.

    Near is a name that has all the words of the other (``event_name`` and ``name``), or one with a few letters wrong
    (``enviroment``).
    """
    names, words = {one.lower(): one for one in known}, _words(name)
    related = [one for one in names if words and (_words(one) <= words or words <= _words(one))]
    near = sorted(related, key=lambda one: len(words ^ _words(one))) or get_close_matches(name.lower(), names, n=1)
    return f" (did you mean {names[near[0]]}?)" if near else ""


def number_of(count: int, thing: str) -> str:
    """``1 event``, ``1,200 events``, ``3 batches``, ``2 retries``.

    :param thing: in the singular.
    """
    plural = f"{thing}es" if thing.endswith("ch") else f"{thing[:-1]}ies" if thing.endswith("ry") else f"{thing}s"
    return f"{count:,} {thing if count == 1 else plural}"


def _words(name: str) -> set[str]:
    return {word.rstrip("s") for word in name.lower().split("_")} - {"", "id"}
