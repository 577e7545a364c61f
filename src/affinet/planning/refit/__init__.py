"""Plan again with other right-hand sides: results that depend on coefficients alone are looked up."""
