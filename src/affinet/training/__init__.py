"""Training under rules: a projection around every optimizer step, and the handle that reports on it."""
