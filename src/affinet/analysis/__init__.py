"""A plan described for people: summaries, findings, contradictions, multipliers."""
