"""Looking up what an entry or a rule became: its equations, its block, its class, how free it is."""
