"""Combine regular rules that share entries: one matrix, a commuting product, a mirror, or a border on top."""
