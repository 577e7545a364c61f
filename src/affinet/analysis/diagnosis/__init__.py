"""Explain rules that contradict each other: name the rules, their equations, and what these say."""
