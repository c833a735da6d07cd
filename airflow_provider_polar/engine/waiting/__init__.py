"""Waiting for named events, and watching for them: decisions without I/O."""
