"""From exported files to tables."""
