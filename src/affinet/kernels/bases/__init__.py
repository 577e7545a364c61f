"""Bases of blocks: structured matrices N of `w = w0 + N v`, written once for the arrays of every library."""
