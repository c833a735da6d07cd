"""Every item of a list whose pages are a partition, as those of events are not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow_provider_polar.api.limits import MAX_LIMIT

if TYPE_CHECKING:
    from airflow_provider_polar.api.models import Pagination

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Page(Protocol[T_co]):
    """What such a list responds with."""

    @property
    def items(self) -> Sequence[T_co]: ...
    @property
    def pagination(self) -> Pagination: ...


def every_item(page_of: Callable[[int], Page[T]], identity: Callable[[T], Hashable]) -> Iterator[T]:
    """Each item once, in the order of the pages.

    :param page_of: requests a page of :data:`~airflow_provider_polar.api.limits.MAX_LIMIT` items, by its number from 1.
    :param identity: what tells one item from another, for one that moved between two pages comes twice.
    """
    seen: set[Hashable] = set()
    number = 1
    while True:
        page = page_of(number)
        for item in page.items:
            if identity(item) not in seen:
                seen.add(identity(item))
                yield item
        if not page.items or number * MAX_LIMIT >= page.pagination.total_count:
            return
        number += 1
