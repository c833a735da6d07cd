"""Values as NumPy and pandas hold them, as the plain Python values that they stand for. Neither is imported."""

from __future__ import annotations

from typing import Any

_PLAIN = frozenset({str, int, float, bool, type(None), dict, list})
_TEXT_BOOLEANS_NUMBERS = "Ubiuf"
_MISSING = ("NAType", "NaTType")


def plain(value: Any) -> Any:
    """A NumPy scalar that is text, a boolean or a number as Python's own; pandas' ``NA`` and ``NaT`` as None.

    Everything else is returned as it is: an array, a moment or a span of NumPy has no JSON value that is surely meant.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    library = kind.__module__.partition(".")[0]
    if library == "pandas" and kind.__name__ in _MISSING:
        return None
    if library == "numpy" and any(base.__name__ == "generic" for base in kind.__mro__):  # no array, but one element
        if value.dtype.kind in _TEXT_BOOLEANS_NUMBERS:
            # What is wider than Python's float stays what it is.
            return value.item()
        if value.dtype.kind in "mM" and value != value:
            return None
    return value
