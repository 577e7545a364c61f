"""Projections on arrays: a slow, dense reference, and one module for each array library."""
