"""Motion-aware masking of tokens for masked autoencoders of skeletons."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from .. import _check, _register
from .._dispatch import choose, ops_of
from ..reference import token_mask as reference


class TokenMask(NamedTuple):
    """What :func:`token_mask` returns, in the order and sense of MAE's ``random_masking``."""

    ids_keep: torch.Tensor
    """(N, keep) int64: the kept tokens, smallest key first."""
    ids_restore: torch.Tensor
    """(N, L) int64: the rank of each token's key; it puts ``cat([kept, masked])`` back in order."""
    mask: torch.Tensor
    """(N, L) in the score's dtype: 0 kept, 1 masked."""


def token_mask(
    score: torch.Tensor,
    keep: int,
    rng: torch.Tensor | None = None,
    tau: float = 1.0,
    noise: torch.Tensor | None = None,
    *,
    backend: str = "auto",
) -> TokenMask:
    """Keep the ``keep`` tokens of each row with the smallest ``score / (tau * max score) + Gumbel noise``.

    A token of more motion has a larger key, so it is masked more often: adding Gumbel noise to log p and removing the
    largest samples without replacement from p, here the softmax of score / (tau * max score). This is MAMP's sign: it
    sorts log(softmax) + noise ascending and keeps the head; the softmax's normaliser is the same for a whole row and
    left out. MAMP's 1e-10, added against a division by 0, is replaced by the rule for rows without motion below.

    Args:
        score: motion of each token (N, L), >= 0 is meant, any unit; float64, float32, bfloat16 or float16, any strides.
        keep: tokens kept of each row, in [0, L].
        rng: ``[seed, call]``, int64, on score's device (see :mod:`asma_kernels.rng`). Token i of row n draws word w,
            u = (w + 0.5) / 2^32 and the noise -log(-log(u)).
        tau: temperature, > 0: small follows the motion closely, ``inf`` is uniform masking.
        noise: (N, L), floating, in place of ``rng``: exactly one of both is given.
        backend: auto, cpu, cuda, triton or reference.

    Keys are float32 (float64 for a float64 score). Equal keys go by index, the lower first. A row whose largest score
    is not above 0 is masked uniformly, by the noise alone. A NaN score is left out of the maximum, and its token is
    masked first (it comes last), like one of infinite score; among such tokens the lower index comes first.

    Returns:
        :class:`TokenMask`: ids_keep (N, keep), ids_restore (N, L) and mask (N, L), as MAE code expects them.

    Deterministic, the same for any number of threads; row n of any batch gets what row n of any other batch would get.
    Backends agree exactly on given noise. Drawn noise goes through two logarithms in float64, whose last bits differ
    between backends; rounded to float32 they differ about once in 10^8 draws. No gradient.

    Raises:
        ValueError, TypeError: an argument breaks a rule above.

    Source: MAMP (arXiv 2308.07092, motion-aware masking); MAE (arXiv 2111.06377) for what is returned.

    Example:
        >>> import torch, asma_kernels
        >>> score = torch.tensor([[3.0, 0.0, 9.0, 6.0]])
        >>> masked = asma_kernels.token_mask(score, 2, noise=torch.zeros(1, 4))
        >>> masked.ids_keep.tolist(), masked.ids_restore.tolist(), masked.mask.tolist()
        ([[1, 0]], [[1, 0, 3, 2]], [[0.0, 0.0, 1.0, 1.0]])
    """
    _check.dim("token_mask", "score", score, "N, L")
    _check.floating("token_mask", "score", score)
    L = score.shape[1]
    if not 0 <= keep <= L:
        raise ValueError(f"token_mask: keep must be in [0, L], got {keep} with L = {L}")
    if not tau > 0:
        raise ValueError(f"token_mask: tau must be > 0, got {tau}")
    if (rng is None) == (noise is None):
        raise ValueError(f"token_mask: one of rng and noise must be given, got {'neither' if rng is None else 'both'}")
    if rng is not None:
        _check.rng("token_mask", rng)
        _check.same_device("token_mask", "rng", rng, score)
    if noise is not None:
        _check.floating("token_mask", "noise", noise)
        _check.same_device("token_mask", "noise", noise, score)
        if noise.shape != score.shape:
            raise ValueError(
                f"token_mask: noise must be (N, L) = {tuple(score.shape)} as score, got {tuple(noise.shape)}"
            )
        noise = noise.to(torch.float64 if score.dtype == torch.float64 else torch.float32)
    arguments = (score, keep, rng, float(tau), noise)
    chosen = choose("token_mask", backend, score.device)
    if chosen == "reference":
        return TokenMask(*reference.token_mask(*arguments))
    return TokenMask(*ops_of(chosen).token_mask(*arguments))


def _fake(
    score: torch.Tensor, keep: int, rng: torch.Tensor | None, tau: float, noise: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    N, L = score.shape
    return (
        score.new_empty((N, keep), dtype=torch.int64),
        score.new_empty((N, L), dtype=torch.int64),
        score.new_empty((N, L)),
    )


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*output)


def _no_gradient(ctx: Any, *grads: Any) -> Any:
    return None, None, None, None, None


_register.fake("token_mask", _fake)
# The mask is floating, so autograd has to be told that it is a constant.
_register.autograd("token_mask", _no_gradient, _save)
_register.fallback("token_mask", reference.token_mask)
_register.triton("token_mask", _fake)
_register.autograd("token_mask", _no_gradient, _save, "asma_triton")
