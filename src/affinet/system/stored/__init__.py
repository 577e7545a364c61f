"""Store systems of rules in files, check files, and restore systems from them."""
