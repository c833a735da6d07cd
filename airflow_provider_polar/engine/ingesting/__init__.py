"""Rows to Polar, each stored once: validated, identified, spooled, sent in batches."""
