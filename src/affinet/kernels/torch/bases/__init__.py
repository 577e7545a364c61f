"""Blocks as the span of their free numbers, `w = w0 + N v`: one basis a kind of block."""
