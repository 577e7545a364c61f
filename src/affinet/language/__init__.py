"""The language in which users write rules: weights, affine expressions in them, equations. It imports no torch."""
