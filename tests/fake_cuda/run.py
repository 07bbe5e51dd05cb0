"""Checks every op on fake CUDA tensors: `python tests/fake_cuda/run.py DEVICE_LIBRARY`, a process of its own.

The library has to be there before PyTorch asks for the first time which devices there are.
"""

import ctypes
import importlib.util
import sys
from pathlib import Path

found = importlib.util.find_spec("torch")
assert found is not None and found.origin is not None
for name in ("libc10.so", "libtorch_cpu.so"):
    ctypes.CDLL(str(Path(found.origin).parent / "lib" / name), mode=ctypes.RTLD_GLOBAL)
ctypes.CDLL(sys.argv[1])

import pytest  # noqa: E402

tests = Path(__file__).parent / "every_op.py"
sys.exit(pytest.main(["-p", "no:cacheprovider", "-W", "ignore", str(tests)]))
