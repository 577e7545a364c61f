"""A run on disk: its folder, checkpoints and lock, and going on with one that was stopped."""
