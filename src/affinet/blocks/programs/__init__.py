"""Nearest points of polyhedra: quadratic programs with the same rows and changing targets and right-hand sides."""
