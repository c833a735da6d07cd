"""Whether Polar bills what it lists, what an export holds, and what was sent; and where not, what differs."""
