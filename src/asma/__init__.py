"""ASMa: self-supervised pretraining of skeleton encoders, a thin wrapper over asma_kernels."""

from asma_kernels import __version__

__all__ = ["__version__"]
