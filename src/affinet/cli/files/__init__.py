"""Read matrices, tables and weights from untrusted files: sizes are checked before memory is allocated."""
