"""Summaries as plain data, and their text."""
