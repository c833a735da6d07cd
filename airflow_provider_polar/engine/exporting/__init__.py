"""A window to files: slices, parts, the manifest, and what earlier exports left."""
