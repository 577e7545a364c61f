"""Train towards rules by an augmented Lagrangian: multipliers and penalties in the gradients, nothing projected."""
