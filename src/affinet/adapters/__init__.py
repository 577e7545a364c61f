"""Guests: one small file for each library that affinet meets outside of torch."""
