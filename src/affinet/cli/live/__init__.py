"""Serve the page of a run on this machine while it trains, from a process that only reads the run's files."""
