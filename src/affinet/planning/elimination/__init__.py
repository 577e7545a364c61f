"""Equations one by one: ties and fixed entries first, then connected components and their factors."""
