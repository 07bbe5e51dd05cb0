"""Which backend was fastest on a GPU, by compute capability and op. Made by `python -m bench.fastest` from
bench/results; what was not measured runs by the reference."""

FASTEST: dict[int, dict[str, str]] = {}
