"""From manifests to tables: one transaction a window."""
