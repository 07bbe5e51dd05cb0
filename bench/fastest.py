"""`python -m bench.fastest`: which backend `auto` takes on a GPU, from bench/results into asma_kernels/_measured.py."""

from __future__ import annotations

import json
import math
import pprint
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "asma_kernels" / "_measured.py"
HEAD = '''"""Which backend was fastest on a GPU, by compute capability and op. Made by `python -m bench.fastest` from
bench/results; what was not measured runs by the reference."""

FASTEST: dict[int, dict[str, str]] = '''


def results() -> list[dict[str, Any]]:
    """What `make gpu` has written for each device."""
    files = sorted((ROOT / "bench" / "results").glob("*.json"))
    found = [json.loads(path.read_text()) for path in files]
    return [result for result in found if "capability" in result.get("facts", {})]


def fastest(found: Iterable[dict[str, Any]]) -> dict[int, dict[str, str]]:
    """By the geometric mean over an op's works and sizes, of the backends that ran all of them.

    >>> rows = [{"op": "philox", "backend": name, "ours": s} for name, s in (("cuda", 2.0), ("reference", 3.0))]
    >>> fastest([{"facts": {"capability": 90}, "ops": {"rows": rows}}])
    {90: {'philox': 'cuda'}}
    """
    table: dict[int, dict[str, str]] = {}
    for result in found:
        times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in result.get("ops", {}).get("rows", []):
            times[row["op"]][row["backend"]].append(math.log(row["ours"]))
        chosen = {}
        for op, by_backend in sorted(times.items()):
            whole = max(len(logs) for logs in by_backend.values())
            mean = {name: sum(logs) / whole for name, logs in by_backend.items() if len(logs) == whole}
            chosen[op] = min(mean, key=mean.__getitem__)
        table[result["facts"]["capability"]] = chosen
    return table


def module(table: dict[int, dict[str, str]]) -> str:
    """The text of asma_kernels/_measured.py."""
    return HEAD + pprint.pformat(table, width=118).replace("'", '"') + "\n"


if __name__ == "__main__":
    FILE.write_text(module(fastest(results())))
