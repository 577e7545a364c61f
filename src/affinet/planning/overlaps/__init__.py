"""Where regular rows meet on the same entries: one matrix, a commuting product, a mirror, or a border on top."""
