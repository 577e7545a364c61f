"""Solve single equations: eliminate ties and fixed entries, then factor the connected components."""
