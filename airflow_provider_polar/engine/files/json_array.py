"""The ``json`` format, which is only read: one array of objects."""

from __future__ import annotations

import io
import json
import re
from typing import IO, Any

from airflow_provider_polar.engine.files.compression import StreamError
from airflow_provider_polar.engine.files.streams import Rows, of_objects

_BLOCK = 1 << 16
_MAX_ELEMENT = 16 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_decode = json.JSONDecoder().raw_decode


@of_objects
def read(data: IO[bytes]) -> Rows:
    """The elements of an array, decoded as they come; nothing but the element at hand is held."""
    text = _Text(data)
    if text.take() != "[":
        raise StreamError("a .json file holds one array of events; for one event a line call it .jsonl")
    mark = text.take() if text.look() == "]" else ","
    while mark == ",":
        yield text.elements + 1, text.element(), None
        mark = text.take()
    if mark != "]":
        raise StreamError(f"after element {text.elements}: neither a comma nor the end of the array")
    if text.look():
        raise StreamError("something follows the end of the array")


class _Text:
    """The text of an array, of which only what is not taken yet is held."""

    def __init__(self, data: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(data, encoding="utf-8-sig")
        self._buffer, self._position = "", 0
        self.elements = 0

    def _fill(self) -> bool:
        """Reads on; at the end False, and positions stay what they are."""
        more = self._text.read(_BLOCK)
        if not more:
            return False
        self._buffer, self._position = self._buffer[self._position :] + more, 0
        if len(self._buffer) > _MAX_ELEMENT:
            raise StreamError(f"after element {self.elements}: no complete JSON value in {_MAX_ELEMENT} characters")
        return True

    def look(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            self._position = self._after_space(self._position)
            if self._position < len(self._buffer) or not self._fill():
                return self._buffer[self._position : self._position + 1]

    def take(self) -> str:
        """The next character that is no space, which is done with."""
        mark = self.look()
        self._position += len(mark)
        return mark

    def element(self) -> Any:
        """The next value."""
        self.look()
        while True:
            try:
                value, end = _decode(self._buffer, self._position)
                # "1" may go on as "1.5" in the next block: a value is whole once its end mark is in sight.
                after = self._after_space(end)
                if self._buffer[after : after + 1] in (",", "]") or not self._fill():
                    break
            except ValueError as error:
                if not self._fill():
                    raise StreamError(f"after element {self.elements}: {error}") from None
        self._position = end
        self.elements += 1
        return value

    def _after_space(self, position: int) -> int:
        found = _SPACE.match(self._buffer, position)
        return found.end() if found else position
