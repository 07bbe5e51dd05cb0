"""The version of this code; pyproject.toml holds the same (tests/test_build.py)."""

__version__ = "0.1.0"
