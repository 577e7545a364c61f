"""Factor dense equations to orthonormal rows, and make the blocks that follow from these directly."""
