"""Rules that cannot hold together: which of them, which of their equations, and what these say."""
