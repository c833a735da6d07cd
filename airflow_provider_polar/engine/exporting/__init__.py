"""A window to files: slices, local files, the manifest, and what earlier exports left."""
