"""From what a rule says to regular rows: the terms of its expression, and patterns among equations one by one."""
