"""Loops compiled by numba, for arrays on the CPU: one pass over memory where separate calls take several."""
