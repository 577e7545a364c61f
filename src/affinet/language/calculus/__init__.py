"""The loop-nest terms that expressions are made of, and the operations on them."""
