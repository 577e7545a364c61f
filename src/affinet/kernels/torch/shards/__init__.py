"""Blocks whose weights several processes hold together (DTensors): what is read, added up, and written by each."""
