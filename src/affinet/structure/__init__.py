"""How rules become blocks: regular slices, mirrors, ties, components; and the plan that holds them."""
