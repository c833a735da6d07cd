"""How a call of both clients is described: what it sends, and how its response is decoded."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
    get_type_hints,
    overload,
)

from airflow_provider_polar.api.requests import PolarRequest
from airflow_provider_polar.api.retrying import Retries

if TYPE_CHECKING:
    from airflow_provider_polar.api.client import AsyncPolarClient, PolarClient

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Call(NamedTuple, Generic[T]):
    """What a call sends, how its response is decoded, and the retries that are meant for it alone."""

    request: PolarRequest
    decode: Callable[[bytes], T]
    retries: Retries | None


class _Method(Protocol[P, T_co]):
    """A method of both clients: of the one it returns the response, of the other one it is awaited for it."""

    @overload
    def __get__(self, client: PolarClient, kind: type) -> Callable[P, T_co]: ...
    @overload
    def __get__(self, client: AsyncPolarClient, kind: type) -> Callable[P, Coroutine[Any, Any, T_co]]: ...


def method_of(describe: Callable[Concatenate[Any, P], Call[T]]) -> _Method[P, T]:
    """The method that sends what is described; ``help`` and editors name each of the filters that it takes."""

    @functools.wraps(describe)
    def method(client: PolarClient | AsyncPolarClient, *args: P.args, **kwargs: P.kwargs) -> Any:
        request, decode, retries = describe(client, *args, **kwargs)
        return client.send(request, decode, retries=retries)

    hints, parameters = get_type_hints(describe), []
    for parameter in inspect.signature(describe).parameters.values():
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(parameter)
            continue
        [filters] = get_args(hints[parameter.name])
        for name, annotation in get_type_hints(filters).items():
            parameters.append(
                parameter.replace(name=name, kind=parameter.KEYWORD_ONLY, annotation=annotation, default=None)
            )
    [returned] = get_args(hints["return"])
    method.__signature__ = inspect.Signature(parameters, return_annotation=returned)  # type: ignore[attr-defined]
    return cast("_Method[P, T]", method)
