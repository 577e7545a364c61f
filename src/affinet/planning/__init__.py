"""Compile a system of rules to blocks: read, merge, eliminate, factor."""
