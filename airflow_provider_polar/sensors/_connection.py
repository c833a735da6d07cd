"""The connection of a task that waits, as it is now; what triggers have of it is in ``triggers/_client.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_polar.exceptions import (
    PolarAuthenticationError,
    PolarConnectionNotFoundError,
    PolarScopeError,
)
from airflow_provider_polar.hooks.polar import PolarHook

if TYPE_CHECKING:
    from airflow_provider_polar.api.retrying import Retries
    from airflow_provider_polar.engine.drive import Steps

T = TypeVar("T")


class LiveConnection:
    """A connection that is read again before each look, so that a token may be rotated under a task.

    :param polar_conn_id: the connection.
    :param logger: of the task.
    """

    def __init__(self, polar_conn_id: str, logger: Any) -> None:
        self.polar_conn_id = polar_conn_id
        self._log = logger
        self._known: PolarHook | None = None
        self._missing: PolarConnectionNotFoundError | None = None

    @property
    def is_known(self) -> bool:
        """Whether Airflow has given it yet."""
        return self._known is not None

    def read(self) -> PolarHook:
        """The hook with the connection as it is now, or, where Airflow does not give it any more, as it was.

        :raises PolarConnectionNotFoundError: Airflow has never given it yet; a retry may help.
        :raises PolarConfigurationError: the connection is of another type, has no token, or has an invalid value.
        """
        from airflow_provider_polar.api.retrying import NO_RETRIES

        # A look is repeated by the next one, and what it only tells about must not hold it up.
        known, now = self._known, PolarHook(self.polar_conn_id, retries=NO_RETRIES)
        try:
            settings, self._missing = now.settings, None
        except PolarConnectionNotFoundError as error:
            self._missing = error
            if known is None:
                raise
            self._log.warning("The connection stays in use as it was read before, after: %s", error)
            return known
        if known is not None:
            if known.settings == settings:
                return known
            known.close()
        self._known = now
        return now

    def poll(self, hook: PolarHook, steps: Callable[[PolarHook], Steps[T]], retries: Retries | None = None) -> T:
        """The result of one look's steps.

        :param hook: what :meth:`read` has just returned.
        :param retries: None for never.
        :raises PolarAuthenticationError, PolarScopeError: for the connection as it is when the response has come.
        :raises PolarConnectionNotFoundError: Airflow does not say what it is then; it may have been changed.
        """
        from airflow_provider_polar.engine.drive import drive

        while True:
            try:
                return drive(hook.get_conn(), steps(hook), retries=retries)
            except (PolarAuthenticationError, PolarScopeError):
                refused, hook = hook, self.read()
                if self._missing is not None:
                    raise self._missing from None
                if hook is refused:
                    raise
