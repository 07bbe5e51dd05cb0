import cases
import pytest
import torch

from asma_kernels import frame_mask, joint_mask, philox

RNG = torch.tensor([-7, 2**40 + 3])


def test_philox_known_answer_of_the_random123_distribution():
    assert philox(torch.tensor([0, 0]), 1, 1, backend="triton").item() == 0x6627E8D5


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (9, 33), (3, 1400), (700, 2), (0, 5), (5, 0)])
@pytest.mark.parametrize("step", [1, 3])
def test_philox_is_bit_equal(rows, columns, step):
    rng = RNG.repeat_interleave(step)[::step]
    assert torch.equal(philox(rng, rows, columns, backend="triton"), philox(rng, rows, columns, backend="reference"))


def energies(dtype):
    """Few different values, so that there are ties, and the special ones."""
    energy = torch.randint(-2, 3, (3, 21)).to(dtype) / 2
    energy[0, 3:6] = torch.tensor([float("nan"), -0.0, float("nan")])
    energy[1, 5:8] = torch.tensor([float("inf"), float("-inf"), float("nan")])
    energy[2, 4:7] = torch.finfo(dtype).smallest_normal / torch.tensor([1, 4, -2])  # the last two are denormal
    return energy


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("which", ["high", "low"])
@pytest.mark.parametrize(("drop", "extra", "shared"), [(9, 7, False), (5, 3, True), (20, 0, True), (0, 20, False)])
def test_frame_mask_is_bit_equal(dtype, which, drop, extra, shared):
    energy = energies(dtype)
    expected = frame_mask(energy, drop, which, extra, RNG, shared, backend="reference")
    assert torch.equal(frame_mask(energy, drop, which, extra, RNG, shared, backend="triton"), expected)
    turned = energy.T.contiguous().T
    assert torch.equal(frame_mask(turned, drop, which, extra, RNG, shared, backend="triton"), expected)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (2, 1)])
def test_frame_mask_of_nothing(shape):
    energy = torch.zeros(shape)
    assert torch.equal(frame_mask(energy, 0, backend="triton"), frame_mask(energy, 0, backend="reference"))


@pytest.mark.parametrize("mode", ["fixed", "tokens", "deterministic"])
@pytest.mark.parametrize(("k", "shared"), [(0, False), (4, False), (3, True), (9, False)])
def test_joint_mask_is_bit_equal(mode, k, shared):
    weights = torch.tensor([1, 4, 2, 1, 0, 3, 3, -2, 5])
    for actual, expected in zip(
        joint_mask(weights, k, 5, RNG, mode, shared, backend="triton"),
        joint_mask(weights, k, 5, RNG, mode, shared, backend="reference"),
        strict=True,
    ):
        assert actual.dtype == expected.dtype
        assert torch.equal(actual, expected)


@pytest.mark.parametrize(("V", "rows"), [(0, 2), (3, 0), (33, 1)])
def test_joint_mask_of_few_and_many(V, rows):
    weights = torch.ones(V, dtype=torch.int64)
    for actual, expected in zip(
        joint_mask(weights, V // 2, rows, RNG, backend="triton"),
        joint_mask(weights, V // 2, rows, RNG, backend="reference"),
        strict=True,
    ):
        assert torch.equal(actual, expected)


def test_more_than_a_program_holds_is_refused():
    with pytest.raises(ValueError, match="frame_mask: backend 'triton' takes at most 8192 frames, got T = 8193"):
        frame_mask(torch.zeros(1, 8193), 1, backend="triton")
    with pytest.raises(ValueError, match="joint_mask: backend 'triton' takes at most 1024 joints, got V = 1025"):
        joint_mask(torch.ones(1025, dtype=torch.int64), 1, 1, RNG, backend="triton")


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("philox", (RNG, 3, 4)),
        ("frame_mask", (torch.rand(2, 9), 2, "high", 2, RNG, True)),
        ("joint_mask", (torch.tensor([1, 3, 2]), 2, 4, RNG, "tokens", False)),
    ],
)
def test_opcheck(op, arguments):
    torch.library.opcheck(getattr(torch.ops.asma_triton, op).default, arguments)
