"""Projections of a plan on arrays: a folder for each array library, and the compiled loops of the CPU."""
