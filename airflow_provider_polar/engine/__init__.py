"""The engines, in plain Python: windows, complete reading, files, identities, batches, waiting."""
