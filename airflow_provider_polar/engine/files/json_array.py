"""The ``json`` format, which is only read: one array of objects."""

from __future__ import annotations

import io
import json
from typing import IO

from airflow_provider_polar.engine.files.compression import StreamError
from airflow_provider_polar.engine.files.json_text import of_objects
from airflow_provider_polar.engine.files.streams import Rows

_CHUNK = 1 << 16
_MAX_ELEMENT = 16 << 20


@of_objects
def read(data: IO[bytes]) -> Rows:
    """The elements of an array, decoded as they come; nothing but the element at hand is held."""
    decoder = json.JSONDecoder()
    text = io.TextIOWrapper(data, encoding="utf-8-sig")
    buffer, ended, position, number = "", False, 0, 0

    def fill() -> bool:
        nonlocal buffer, ended, position
        chunk = "" if ended else text.read(_CHUNK)
        ended = not chunk
        buffer, position = buffer[position:] + chunk, 0
        if len(buffer) > _MAX_ELEMENT:
            raise StreamError(f"after element {number}: no complete JSON value in {_MAX_ELEMENT} characters")
        return not ended

    def skip_space() -> str:
        nonlocal position
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n":
                position += 1
            if position < len(buffer):
                return buffer[position]
            if not fill():
                return ""

    if skip_space() != "[":
        raise StreamError("a .json file holds one array of events; for one event a line call it .jsonl")
    position += 1
    if skip_space() == "]":
        position += 1
    else:
        while True:
            skip_space()
            while True:
                try:
                    value, end = decoder.raw_decode(buffer, position)
                    # "1" may go on as "1.5" in the next chunk: a value is whole once its end mark is in sight.
                    if buffer[end:].lstrip(" \t\r\n")[:1] in (",", "]") or not fill():
                        break
                except ValueError as error:
                    if not fill():
                        raise StreamError(f"after element {number}: {error}") from None
            position = end
            number += 1
            yield number, value, None
            mark = skip_space()
            position += 1
            if mark == "]":
                break
            if mark != ",":
                raise StreamError(f"after element {number}: neither a comma nor the end of the array")
    if skip_space():
        raise StreamError("something follows the end of the array")
