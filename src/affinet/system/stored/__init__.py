"""Systems of rules as files: stored, checked and restored."""
