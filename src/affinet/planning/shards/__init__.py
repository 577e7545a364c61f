"""Divides weights and blocks between processes, from shapes alone."""
