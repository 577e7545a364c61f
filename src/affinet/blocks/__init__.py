"""Blocks: entries of weights and the equations that hold on them, and what can be asked of each kind."""
