"""The two formats made of lines: ``jsonl`` and ``csv``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO

import msgspec

from airflow_provider_polar.api.rows import EventRow
from airflow_provider_polar.engine.files.compression import compressed
from airflow_provider_polar.engine.files.fields import EVENT_FIELDS, FieldChoice

_BLOCK = 1 << 18
_KNOWN = frozenset(EVENT_FIELDS)
_QUOTED = re.compile(rb'[",\r\n]')

Encode = Callable[[EventRow], bytes]


def extra_fields(row: EventRow) -> list[tuple[str, msgspec.Raw]]:
    """What an event has beyond the known fields, sorted by name."""
    return sorted((name, raw) for name, raw in row.values.items() if name not in _KNOWN)


def one_line(json_text: bytes) -> bytes:
    """JSON on one line; Polar writes it so already."""
    return msgspec.json.format(json_text, indent=-1) if b"\n" in json_text or b"\r" in json_text else json_text


def extra_object(row: EventRow) -> bytes | None:
    """The fields beyond the known ones as one JSON object, None where there are none."""
    extra = extra_fields(row)
    if not extra:
        return None
    return b"{" + b",".join(msgspec.json.encode(name) + b":" + bytes(raw) for name, raw in extra) + b"}"


def jsonl_encoder(fields: FieldChoice) -> Encode:
    """Events as the API's own JSON objects, values untouched, keys in one order."""
    prefixes = [(name, msgspec.json.encode(name) + b":") for name in fields.known]
    keep_extra = fields.extra

    def encode(row: EventRow) -> bytes:
        values = row.values
        parts = [prefix + values[name] for name, prefix in prefixes if name in values]
        if keep_extra and not _KNOWN.issuperset(values):
            parts += [msgspec.json.encode(name) + b":" + raw for name, raw in extra_fields(row)]
        return one_line(b"{" + b",".join(parts) + b"}") + b"\n"

    return encode


def csv_encoder(fields: FieldChoice) -> Encode:
    r"""Events as RFC 4180 rows in UTF-8, ended by ``\n``.

    Null is an empty cell, empty text is ``""``, nested values are JSON text, booleans ``true`` and ``false``."""

    def cell(raw: bytes) -> bytes:
        if raw == b"null":
            return b""
        text = msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else one_line(raw)
        return b'"' + text.replace(b'"', b'""') + b'"' if not text or _QUOTED.search(text) else text

    def encode(row: EventRow) -> bytes:
        values = row.values
        cells = [cell(bytes(values[name])) if name in values else b"" for name in fields.known]
        if fields.extra:
            cells.append(cell(extra_object(row) or b"null"))
        # A line without a byte would be no row to most readers.
        return (b",".join(cells) or b'""') + b"\n"

    return encode


class LineWriter:
    """Writes events as lines to a binary stream.

    :param encode: an event to its line.
    :param header: bytes that every file begins with.
    """

    def __init__(self, raw: IO[bytes], encode: Encode, compression: str | None, header: bytes = b"") -> None:
        self._stream = compressed(raw, compression)
        self._raw = raw
        self._encode = encode
        self._block = bytearray(header)

    def write(self, row: EventRow) -> int:
        """Writes one event; returns its size in bytes before compression."""
        line = self._encode(row)
        self._block += line
        # Blocks end where rows say, never where a page did: what a compressor makes of them must not depend on
        # how the rows came.
        if len(self._block) >= _BLOCK:
            self._stream.write(bytes(self._block))
            self._block.clear()
        return len(line)

    def close(self) -> None:
        """Ends the file; the stream given stays open."""
        self._stream.write(bytes(self._block))
        self._block.clear()
        if self._stream is not self._raw:
            self._stream.close()
