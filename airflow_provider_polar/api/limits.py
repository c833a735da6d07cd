"""What Polar takes at most, and the fields of an event that it takes: each fact once, nothing imported."""

MAX_LIMIT = 100
"""Rows of a page at most; Polar silently takes more as this."""
MAX_BODY_BYTES = 10_485_760
"""Bytes of an ingest request at most (413 above)."""
MAX_EVENTS_PER_REQUEST = 32_767
"""Events of an ingest request at most (a 500 above)."""
MAX_NAME = 128
"""Characters of an event's name at most."""
MAX_KEYS, MAX_KEY = 50, 40
"""Keys of an event's metadata at most, and characters of one; documented, and not enforced by the server."""
MAX_TEXT = 500
"""Characters of a text in metadata at most; it has one at least."""
INTEGERS = range(-(2**31), 2**31)
"""The whole numbers that a ``filter`` compares with."""
MIN_QUERY, MAX_DEPTH = 3, 5
"""Characters of a ``query`` at least, and levels of descendants at most."""
INTERVAL_DAYS = {"hour": 7, "day": 366, "week": 371, "month": 1460, "year": 3650}
"""The intervals of a meter's quantities, and the days between the dates of a request's bounds at most."""
FIRST_YEAR = 2023
"""Quantities begin with this year, in UTC."""

CUSTOMER_FIELDS = ("customer_id", "external_customer_id")
"""The two ways to name an event's customer; an event has exactly one of them."""
INGEST_FIELDS = (
    "name",
    "timestamp",
    *CUSTOMER_FIELDS,
    "member_id",
    "external_member_id",
    "external_id",
    "parent_id",
    "metadata",
)
"""The fields of an event that an organization's token may send; Polar ignores any other."""
