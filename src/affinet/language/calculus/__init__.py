"""The loop-nest terms that expressions are made of, and the functions that turn one term into another."""
