"""Describe a plan for people: summaries, findings, contradictions, multipliers."""
