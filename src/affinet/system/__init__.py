"""All rules together: which entries they touch, their equations, and what counts as zero."""
