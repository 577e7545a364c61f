"""Adapters: one small file per library other than torch that affinet works with."""
