"""From the numbers of equations to orthonormal rows: dense factors, and the blocks made straight from them."""
