"""Projections of a plan on arrays: one folder per array library, and the compiled loops for the CPU."""
