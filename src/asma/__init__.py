"""ASMa: self-supervised pretraining of skeleton encoders, a thin wrapper over asma_kernels."""

from typing import Any

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    # On demand: asma_kernels imports torch, which asma.edge does without.
    if name == "__version__":
        from asma_kernels import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
