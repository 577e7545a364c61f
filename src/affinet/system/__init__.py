"""Represent all rules as one system: the entries they read, their equations, and what counts as zero."""
