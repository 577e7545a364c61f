"""Matrices, tables and weights from files that nobody can trust: sizes are checked before memory is taken."""
