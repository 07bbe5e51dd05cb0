"""The encoder: PSTL's names and sizes, ST-GCN written out by hand, and joints that are gone rather than zero."""

import pytest
import torch
from cases import gradients
from torch.nn import functional as F

from asma.config import EncoderConfig, ProjectorConfig
from asma.models import Encoder, projector
from asma_kernels import Skeleton

NTU = Skeleton.builtin("ntu25")
SMALL = EncoderConfig(channels=(4, 4, 6), strides=(1, 2, 1), kernel=3, dropout=0.0)


def small_encoder(skeleton: Skeleton = NTU, config: EncoderConfig = SMALL) -> Encoder:
    """Float64, with parameters and running statistics that are all different."""
    encoder = Encoder(config, skeleton).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if name.endswith("running_var"):
                tensor.add_(torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
            elif tensor.is_floating_point() and name != "A":
                tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64), alpha=0.3)
    return encoder


def norm(x: torch.Tensor, state: dict[str, torch.Tensor], name: str, training: bool) -> torch.Tensor:
    """Batch norm over all axes but 1, with the biased variance of the batch in training."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    mean = x.mean(axes) if training else state[f"{name}.running_mean"]
    var = x.var(axes, unbiased=False) if training else state[f"{name}.running_var"]
    normal = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return normal * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def by_hand(encoder: Encoder, x: torch.Tensor, kept: list[int], training: bool) -> torch.Tensor:
    """ST-GCN from a state dict in PSTL's names, one equation after the other."""
    state = dict(encoder.state_dict())
    N, C, T, V, M = x.shape
    persons = torch.stack([x[..., m] for m in range(M)], 1).reshape(N * M, C, T, V)
    columns = torch.stack([persons[:, c, :, v] for v in range(V) for c in range(C)], 1)  # joint-major, as in ST-GCN
    columns = norm(columns, state, "data_bn", training)
    h = torch.stack([columns[:, c::C].transpose(1, 2) for c in range(C)], 1)[..., kept]
    for place, stride in enumerate(encoder.config.strides):
        name = f"st_gcn_networks.{place}"
        A = (state["A"] * state[f"edge_importance.{place}"])[:, kept][:, :, kept]
        wide = F.conv2d(h, state[f"{name}.gcn.conv.weight"], state[f"{name}.gcn.conv.bias"])
        wide = wide.view(N * M, len(A), -1, *h.shape[2:])
        y = sum(torch.einsum("nctv,vw->nctw", wide[:, k], A[k]) for k in range(len(A)))
        y = norm(y, state, f"{name}.tcn.0", training).relu()
        padding = (encoder.config.kernel // 2, 0)
        y = F.conv2d(y, state[f"{name}.tcn.2.weight"], state[f"{name}.tcn.2.bias"], (stride, 1), padding)
        y = norm(y, state, f"{name}.tcn.3", training)
        if f"{name}.residual.0.weight" in state:
            r = F.conv2d(h, state[f"{name}.residual.0.weight"], state[f"{name}.residual.0.bias"], (stride, 1))
            y = y + norm(r, state, f"{name}.residual.1", training)
        elif place > 0:
            y = y + h
        h = y.relu()
    return torch.stack([clip.mean(dim=(0, 2, 3)) for clip in h.split(M)])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kept", [list(range(25)), [0, 1, 2, 4, 8, 9, 13, 20, 21, 24]])
def test_equals_st_gcn_by_hand(training: bool, kept: list[int]) -> None:
    encoder = small_encoder().train(training)
    x = torch.randn(3, 3, 9, 25, 2, dtype=torch.float64)
    expected = by_hand(encoder, x, kept, training)
    actual = encoder(x, None if len(kept) == 25 else torch.tensor(kept))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_gradients_equal_those_by_hand() -> None:
    encoder = small_encoder()
    x = torch.randn(2, 3, 6, 25, 1, dtype=torch.float64)
    kept = [1, 2, 3, 7, 20]
    ours = gradients(lambda clip: encoder(clip, torch.tensor(kept)), x)
    torch.testing.assert_close(ours, gradients(lambda clip: by_hand(encoder, clip, kept, True), x))


def test_sizes_and_names_of_pstl() -> None:
    encoder = Encoder(EncoderConfig(), NTU)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 821_380
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {"A": (3, 25, 25)}

    def expect_norm(name: str, width: int) -> None:
        expected.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        expected[f"{name}.num_batches_tracked"] = ()

    expect_norm("data_bn", 75)
    width_in = 3
    for place, width in enumerate((16, 16, 16, 16, 32, 32, 32, 64, 64, 256)):
        name = f"st_gcn_networks.{place}"
        expected[f"edge_importance.{place}"] = (3, 25, 25)
        expected[f"{name}.gcn.conv.weight"] = (3 * width, width_in, 1, 1)
        expected[f"{name}.gcn.conv.bias"] = (3 * width,)
        expected[f"{name}.tcn.2.weight"] = (width, width, 9, 1)
        expected[f"{name}.tcn.2.bias"] = (width,)
        expect_norm(f"{name}.tcn.0", width)
        expect_norm(f"{name}.tcn.3", width)
        if place in (4, 7, 9):
            expected[f"{name}.residual.0.weight"] = (width, width_in, 1, 1)
            expected[f"{name}.residual.0.bias"] = (width,)
            expect_norm(f"{name}.residual.1", width)
        width_in = width
    assert shapes == expected


def test_dropout_is_in_every_block_but_the_first() -> None:
    encoder = Encoder(EncoderConfig(dropout=0.25), NTU)
    assert [block.tcn[4].p for block in encoder.st_gcn_networks] == [0.0] + [0.25] * 9


def test_paper_sizes_on_frames_of_the_temporal_view() -> None:
    encoder = Encoder(EncoderConfig(), NTU)
    assert encoder(torch.randn(2, 3, 30, 25, 1)).shape == (2, 256)
    assert encoder.feature_map(torch.randn(2, 3, 50, 25, 2), torch.arange(17)).shape == (4, 256, 13, 17)


def test_dropped_joints_have_no_influence_once_trained() -> None:
    encoder = small_encoder().eval()
    kept = torch.tensor([0, 1, 5, 6, 7, 20])
    x = torch.randn(2, 3, 8, 25, 1, dtype=torch.float64)
    other = torch.randn_like(x)
    other[:, :, :, kept] = x[:, :, :, kept]
    assert torch.equal(encoder(x, kept), encoder(other, kept))


def test_dropped_is_not_zeroed() -> None:
    encoder = small_encoder().eval()
    kept = torch.tensor([0, 1, 5, 6, 7, 20])
    x = torch.randn(2, 3, 8, 25, 1, dtype=torch.float64)
    zeroed = torch.zeros_like(x)
    zeroed[:, :, :, kept] = x[:, :, :, kept]
    assert not torch.allclose(encoder(x, kept), encoder(zeroed), atol=1e-3)


def test_joints_of_each_clip() -> None:
    encoder = small_encoder().eval()
    x = torch.randn(3, 3, 8, 25, 2, dtype=torch.float64)
    joints = torch.stack([torch.randperm(25)[:11].sort().values for _ in range(3)])
    alone = torch.cat([encoder(x[n : n + 1], joints[n]) for n in range(3)])
    torch.testing.assert_close(encoder(x, joints), alone, rtol=1e-12, atol=1e-12)


def test_mean_over_persons() -> None:
    encoder = small_encoder().eval()
    x = torch.randn(2, 3, 8, 25, 3, dtype=torch.float64)
    alone = torch.stack([encoder(x[..., m : m + 1]) for m in range(3)]).mean(0)
    torch.testing.assert_close(encoder(x), alone)


@pytest.mark.parametrize("layout", Skeleton.layouts())
def test_every_layout(layout: str) -> None:
    skeleton = Skeleton.builtin(layout)
    encoder = Encoder(SMALL, skeleton)
    features = encoder(torch.randn(2, 3, 8, skeleton.num_joints, 1), torch.arange(skeleton.num_joints - 2))
    assert features.shape == (2, 6) and features.isfinite().all()


def test_users_skeleton_and_other_partitions() -> None:
    skeleton = Skeleton.from_edges([(0, 1), (1, 2), (2, 0), (2, 3)])
    for partition, count in (("uniform", 1), ("distance", 2), ("spatial-full", 3)):
        config = EncoderConfig(in_channels=2, channels=(4,), strides=(1,), partition=partition)
        encoder = Encoder(config, skeleton)
        assert encoder.A.shape == (count, 4, 4)
        assert encoder(torch.randn(2, 2, 5, 4, 1)).shape == (2, 4)


def test_loaded_adjacency_is_the_one_used() -> None:
    encoder = small_encoder().eval()
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state["A"] = torch.rand(3, 25, 25, dtype=torch.float64)  # dense: nonzeros where the skeleton has none
    encoder.load_state_dict(state)
    x = torch.randn(2, 3, 6, 25, 1, dtype=torch.float64)
    torch.testing.assert_close(encoder(x), by_hand(encoder, x, list(range(25)), False), rtol=1e-9, atol=1e-9)


def test_autocast_gives_float32_features_near_those_without() -> None:
    encoder = Encoder(SMALL, NTU).eval()
    x = torch.randn(4, 3, 16, 25, 1)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, encoder(x), rtol=0.1, atol=0.02)


def test_compiles_whole() -> None:
    encoder = Encoder(EncoderConfig(channels=(4,), strides=(1,), kernel=3, dropout=0.0), NTU).eval()
    x, joints = torch.randn(2, 3, 6, 25, 1), torch.arange(20)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, joints), encoder(x, joints))


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"x must be \(N, 3, T, 25, M\), got shape \(2, 3, 6, 20, 1\)"):
        Encoder(SMALL, NTU)(torch.zeros(2, 3, 6, 20, 1))


def test_projector_is_pstls() -> None:
    head = projector(256, ProjectorConfig())
    shapes = [tuple(parameter.shape) for parameter in head.parameters()]
    assert shapes == [(6144, 256), (6144,), (6144,), (6144, 6144), (6144,), (6144,), (6144, 6144)]
    assert [type(layer).__name__ for layer in head] == [
        "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear",
    ]  # fmt: skip
    assert all(layer.bias is None for layer in head[::3])
