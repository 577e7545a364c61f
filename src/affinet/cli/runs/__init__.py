"""Keep a run on disk: its folder, its checkpoints and its lock; and resume a stopped run."""
