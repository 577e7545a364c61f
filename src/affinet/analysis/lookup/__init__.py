"""Look up what became of an entry or a rule: its equations, its block, its class, how free it is."""
