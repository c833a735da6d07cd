"""Rows to Polar, each stored once: validated, identified, kept in a journal, sent in batches."""
