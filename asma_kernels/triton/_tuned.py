"""What was measured to be faster than the common configuration, by compute capability and kernel. Made by
`python -m bench.tune` on a GPU."""

TUNED: dict[int, dict[str, dict[str, int]]] = {}
