"""What the user says: weights, affine expressions in them, rules. No algebra on equations, no torch."""
