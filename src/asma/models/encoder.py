"""The ST-GCN encoder of ASMa and PSTL."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from asma_kernels import Skeleton, SparseGraph
from asma_kernels.nn import STGCNBlock, recomputed

from ..config import EncoderConfig


class Encoder(nn.Module):
    """ST-GCN that can leave joints out of its graph and takes any number of frames.

    Batch norm over joints and channels, ST-GCN blocks, mean over joints, frames and persons. The first batch norm sees
    all joints; then the dropped ones are gone: every later batch norm and the mean run over the kept joints, and the
    graph keeps the rows and columns of the kept joints, not renormalised. Parameter names are those of PSTL: its
    checkpoints load.

    Source: Yan et al., AAAI 2018 (ST-GCN); Zhou et al., AAAI 2023, arXiv 2302.09018 (PSTL), with its default sizes.

    >>> skeleton = Skeleton.builtin("ntu25")
    >>> encoder = Encoder(EncoderConfig(), skeleton).eval()
    >>> sum(parameter.numel() for parameter in encoder.parameters())
    821380
    >>> encoder(torch.zeros(2, 3, 50, 25, 1), joints=torch.arange(17)).shape
    torch.Size([2, 256])
    """

    A: torch.Tensor
    edges: torch.Tensor

    def __init__(self, config: EncoderConfig, skeleton: Skeleton) -> None:
        super().__init__()
        self.config = config
        self.skeleton = skeleton
        self.recompute = False
        """Whether training keeps no more of a block than its input, and computes the block again in the backward."""
        self.register_buffer("A", skeleton.partition(config.partition))
        self.register_buffer("edges", self.A.nonzero().T.contiguous(), persistent=False)
        self.register_load_state_dict_post_hook(_find_edges)
        partitions = len(self.A)
        self.data_bn = nn.BatchNorm1d(config.in_channels * skeleton.num_joints)
        self.st_gcn_networks = nn.ModuleList()
        channels = config.in_channels
        for place, (width, stride) in enumerate(zip(config.channels, config.strides, strict=True)):
            # As in PSTL the first block has neither residual nor dropout.
            dropout = config.dropout if place else 0.0
            block = STGCNBlock(channels, width, partitions, config.kernel, stride, dropout, residual=place > 0)
            self.st_gcn_networks.append(block)
            channels = width
        self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones_like(self.A)) for _ in config.channels)

    @property
    def features(self) -> int:
        """D, the size of a clip's feature."""
        return self.config.channels[-1] * self.config.segments

    def forward(self, x: torch.Tensor, joints: torch.Tensor | None = None) -> torch.Tensor:
        """One feature for each clip, the means over the segments of its frames.

        Args:
            x: clips (N, C, T, V, M) with all V joints.
            joints: the joints to keep, int64, (V') for all clips or (N, V') for each, ascending; None keeps all.

        Returns:
            (N, D) float32 (float64 for float64 clips), also under autocast.
        """
        if self.config.segments == 1:
            return self.mean_feature(x, joints)
        frames = self.feature_map(x, joints).mean(dim=3, dtype=torch.promote_types(x.dtype, torch.float32))
        count, T = self.config.segments, frames.shape[2]
        # The segments of adaptive_avg_pool1d, whose gradient on a GPU is not the same each time.
        parts = [frames[:, :, i * T // count : -(-(i + 1) * T // count)].mean(dim=2) for i in range(count)]
        return torch.stack(parts, dim=1).reshape(x.shape[0], x.shape[4], -1).mean(dim=1)

    def mean_feature(self, x: torch.Tensor, joints: torch.Tensor | None = None) -> torch.Tensor:
        """The mean over all frames, what pretraining compares: (N, channels), otherwise as ``forward``."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        mean = self.feature_map(x, joints).mean(dim=(2, 3), dtype=dtype)
        return mean.view(x.shape[0], x.shape[4], -1).mean(dim=1)

    def feature_map(self, x: torch.Tensor, joints: torch.Tensor | None = None) -> torch.Tensor:
        """What the last block gives, before the means: (N * M, D, T'', V')."""
        N, C, T, V, M = x.shape
        if (self.config.in_channels, self.A.shape[1]) != (C, V):
            wanted = f"(N, {self.config.in_channels}, T, {self.A.shape[1]}, M)"
            raise ValueError(f"Encoder: x must be {wanted}, got shape {tuple(x.shape)}")
        x = x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T)
        x = self.data_bn(x).view(N * M, V, C, T).permute(0, 2, 3, 1)
        if joints is not None and joints.dim() == 2:
            joints = joints.repeat_interleave(M, dim=0)
            x = x.gather(3, joints[:, None, None, :].expand(-1, C, T, -1))
        elif joints is not None:
            x = x.index_select(3, joints)
        k, v, w = self.edges
        graph = SparseGraph(self.A[k, v, w], self.edges, (len(self.A), V, V))
        x = x.contiguous()
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            given = x, graph.weighted(importance), joints
            x = recomputed(block, *given) if self.recompute else block(*given)
        return x

    @torch.no_grad()
    def start_input(self, x: torch.Tensor) -> None:
        """Start the first batch norm by ``config.input_gain``, from the deviations of clips (N, C, T, V, M)."""
        if self.config.input_gain:
            deviation = x.std(dim=(0, 2, 4), correction=0).T.flatten()  # joint-major, as the norm's channels
            self.data_bn.weight.copy_(deviation * (self.config.input_gain / x.std()))
            self.data_bn.bias.normal_()

    @torch.no_grad()
    def calibrate(self, x: torch.Tensor | Iterable[torch.Tensor], batch: int = 256) -> None:
        """Replace the running statistics of all batch norms by the mean ones of whole clips.

        In training the norms see masked and augmented clips; afterwards they are used on whole ones.

        Args:
            x: clips (N, C, T, V, M), or parts of them of nearly one size, since each counts as much as another.
            batch: clips of a part, at most, where x is not in parts.
        """
        training = self.training
        norms = [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        self.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        for clips in x.tensor_split(-(-len(x) // batch)) if isinstance(x, torch.Tensor) else x:
            self.feature_map(clips)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        self.train(training)


def _find_edges(encoder: Encoder, incompatible_keys: object) -> None:
    # A loaded adjacency may have nonzeros in other places than the skeleton's own.
    encoder.edges = encoder.A.nonzero().T.contiguous()
