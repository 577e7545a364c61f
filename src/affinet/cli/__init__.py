"""The command line: `affinet train | check | demo`, thin over the library."""
