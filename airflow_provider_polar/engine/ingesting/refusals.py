"""Why prepared rows are not sent: invalid ones, two of one identity, or others than an earlier run has sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_polar.engine.ingesting.options import IngestOptions
from airflow_provider_polar.engine.ingesting.places import KEPT_PROBLEMS, Flaws
from airflow_provider_polar.engine.ingesting.preparation import Preparation
from airflow_provider_polar.exceptions import PolarIdentityConflictError, PolarInvalidEventsError
from airflow_provider_polar.wording import number_of


def refuse_conflicts(preparation: Preparation, settle: Callable[[], str], log: Any) -> None:
    """Refuses rows that carry the ``external_id`` of another one with different content.

    :param settle: ends what is under way and says in words what has been sent.
    :raises PolarIdentityConflictError: there are some. A retry does not help.
    """
    if not (conflicts := preparation.conflicts):
        return
    _tell_rows("With the external_id of another row", conflicts, log)
    verb = "carries" if len(conflicts) == 1 else "carry"
    raise PolarIdentityConflictError(
        f"{number_of(len(conflicts), 'row')} {verb} the external_id of another row with different content, "
        f"and Polar would keep the first and silently drop the other: {conflicts}. "
        f"{settle()}. Give them different ids",
        problems=[*conflicts.problems, *preparation.rejected.rows.problems][:KEPT_PROBLEMS],
    )


def refuse_changed(preparation: Preparation, options: IngestOptions, log: Any) -> None:
    """Tells rows that an earlier run has sent with other content, and refuses them unless they are set aside.

    :raises PolarIdentityConflictError: there are some. A retry does not help.
    """
    if not (changed := preparation.changed):
        return
    _tell_rows("Sent earlier with other content, so not billed again", changed, log)
    if options.on_changed == "skip":
        return
    raise PolarIdentityConflictError(
        f"{len(changed):,} of {number_of(preparation.rows, 'row')} had other content when an earlier run sent "
        f"them, which Polar keeps; nothing has been sent. The first of them: {changed}. Bill what has changed "
        "under a key of its own, or leave such rows out with on_changed='skip'",
        problems=changed.problems,
    )


def refuse_invalid(preparation: Preparation, options: IngestOptions, log: Any) -> None:
    """Refuses invalid rows unless they are set aside.

    :raises PolarInvalidEventsError: there are some. A retry does not help.
    """
    rejected = preparation.rejected
    invalid = len(rejected) - len(preparation.changed)
    if not invalid or options.skips:
        return
    _tell_rows("Invalid", rejected.rows, log)
    verb = "is" if invalid == 1 else "are"
    raise PolarInvalidEventsError(
        f"{invalid:,} of {number_of(preparation.rows, 'row')} {verb} invalid; nothing has been sent. "
        f"The first problems: {rejected.rows}. Fix them, or set them aside with on_invalid='skip'",
        problems=rejected.rows.problems,
    )


def _tell_rows(what: str, rows: Flaws, log: Any) -> None:
    for line in rows.lines():
        log.error("%s: %s", what, line)
