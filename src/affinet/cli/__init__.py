"""The command line: `affinet train | check | verify | demo`, a thin layer over the library."""
