"""Kernels whose projections are compiled loops, on the CPU where numba is installed."""
