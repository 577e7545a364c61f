"""Plan again with other right-hand sides: what coefficients decide is looked up."""
