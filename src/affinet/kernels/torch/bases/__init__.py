"""Bases that express blocks by their free numbers, `w = w0 + N v`: one basis per kind of block."""
