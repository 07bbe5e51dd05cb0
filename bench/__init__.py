"""What is measured, and against whom. `python -m bench.run` (or `make bench`) measures and writes bench/results."""
