"""Planning of nonlinear equations: from expressions with nodes to programs of equal cells."""
