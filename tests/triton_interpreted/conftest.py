"""These tests run in a process of their own, which tests/test_triton.py starts: Triton decides when it decorates a
kernel whether it is interpreted."""

import os

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]
