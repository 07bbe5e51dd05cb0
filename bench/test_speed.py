"""Times every piece of work by every provider. Run it through `python -m bench.run`, which writes the results.

The gate comes first: where ours and the peer's results differ, nothing is timed.
"""

from __future__ import annotations

import os
from functools import lru_cache

import pytest
import torch

from asma.machine import peak_bytes

from . import registry

THREADS = [int(count) for count in os.environ.get("ASMA_BENCH_THREADS", "1 2").split()]
PROVIDERS = ("ours", "eager", "compiled")
NAMES = [name for name in registry.all_work() if os.environ.get("ASMA_BENCH_ONLY", "") in name]


@lru_cache(maxsize=1)
def made(name: str) -> registry.Work:
    work = registry.all_work()[name]()
    work.check()
    return work


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("name", NAMES)
def test_speed(benchmark, name, threads, provider):
    torch.manual_seed(0)
    work = made(name)
    function = getattr(work, provider)
    if function is None:
        pytest.skip(f"{name}: no {provider} form")
    torch.set_num_threads(threads)
    peak = peak_bytes(function)
    target = {"eager": work.target, "compiled": work.compiled_target}.get(provider, 0)
    benchmark.extra_info.update(work=name, provider=provider, threads=threads, target=target, peak_bytes=peak)
    benchmark.extra_info.update(bytes=work.bytes, flops=work.flops, note=work.note)
    benchmark(function)
