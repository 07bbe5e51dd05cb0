"""`python -m bench.tune`: tries warps and stages of every Triton kernel on this GPU, into triton/_tuned.py.

Warps and stages only: the tiles, and so the parts that sums are made of, stay as they are. The works are those of the
kernel table. Takes minutes.
"""

from __future__ import annotations

import importlib
import itertools
import math
import pkgutil
import pprint
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

import asma_kernels.triton as kernels
from asma_kernels.triton import _config, _tuned

FILE = Path(_tuned.__file__)
WARPS, STAGES = (1, 2, 4, 8), (1, 2, 3, 4)
GAIN = 1.03
"""Below that a difference is noise, and the common configuration stays."""
HEAD = '''"""What was measured to be faster than the common configuration, by compute capability and kernel. Made by
`python -m bench.tune` on a GPU."""

TUNED: dict[int, dict[str, dict[str, int]]] = '''


class Recorder(dict[str, dict[str, int]]):
    """A launch table that remembers which entries were asked for, and answers a tried one for one of them."""

    def __init__(self, table: dict[str, dict[str, int]]) -> None:
        super().__init__(table)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> dict[str, int]:
        self.asked.add(name)
        return super().__getitem__(name)


def candidates(entry: dict[str, int]) -> Iterable[dict[str, int]]:
    """Other warps and, where the common configuration does not say one stage, other stages."""
    stages = STAGES if entry.get("num_stages", 3) > 1 else (1,)
    for warps, depth in itertools.product(WARPS, stages):
        tried = {"num_warps": warps, "num_stages": depth}
        if tried != {"num_warps": entry.get("num_warps", 4), "num_stages": entry.get("num_stages", 3)}:
            yield tried


def tune(
    table: Recorder, works: list[Callable[[], Any]], seconds: Callable[[Callable[[], Any]], float]
) -> dict[str, dict[str, int]]:
    """By entry what beats the table's own by more than noise, over all works that ask for the entry."""
    users: dict[str, list[Callable[[], Any]]] = {}
    for work in works:
        table.asked.clear()
        work()
        for name in table.asked:
            users.setdefault(name, []).append(work)

    found = {}
    for name, calls in sorted(users.items()):
        common = dict.__getitem__(table, name)
        if "num_warps" not in common:
            continue

        def mean(calls: list[Callable[[], Any]] = calls) -> float:
            return math.exp(sum(math.log(seconds(call)) for call in calls) / len(calls))

        best, least = None, mean() / GAIN
        for tried in candidates(common):
            table[name] = common | tried
            try:
                time = mean()
            except Exception as error:  # too many registers or too much shared memory is an answer too
                print(f"{name} {tried}: {error}", file=sys.stderr)
                continue
            if time < least:
                best, least = tried, time
        table[name] = common
        if best is not None:
            found[name] = best
        print(name, best or "stays", flush=True)
    return found


def module(table: dict[int, dict[str, dict[str, int]]]) -> str:
    """The text of _tuned.py."""
    return HEAD + pprint.pformat(table, width=118).replace("'", '"') + "\n"


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("bench.tune: this machine has no GPU; nothing was tuned or written")
    import triton.testing

    from . import kernel_table

    table = Recorder(dict(_config.LAUNCH))
    for found_module in pkgutil.iter_modules(kernels.__path__):
        imported = importlib.import_module(f"{kernels.__name__}.{found_module.name}")
        if hasattr(imported, "LAUNCH"):
            imported.LAUNCH = table
    major, minor = torch.cuda.get_device_capability()
    with torch.device("cuda"):
        works = [launch for _, launch in kernel_table.works()]
        found = tune(table, works, lambda call: triton.testing.do_bench(call, warmup=5, rep=20))
    FILE.write_text(module(_tuned.TUNED | {10 * major + minor: found}))


if __name__ == "__main__":
    main()
