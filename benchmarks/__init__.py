"""What affinet costs: one command, `python -m benchmarks`, measures, prints, saves and writes docs/performance.md."""
