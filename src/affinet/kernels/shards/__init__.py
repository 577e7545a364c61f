"""Which process holds which entries of a weight, and how blocks divide between processes; from shapes alone."""
