"""What performance claims rest on: `python -m benchmarks` measures everything in one run and prints ratios."""
