import itertools
import os
import subprocess
import sys

import cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma_kernels import frame_mask, philox, rng
from asma_kernels.reference import frame_mask as reference

int64 = st.integers(-(2**63), 2**63 - 1)


def by_hand(energy, drop, which, extra, state, shared):
    """The definition read aloud: order by (energy, index), remove, then remove by chance."""
    clips = []
    for n, row in enumerate(energy.double().tolist()):
        T = len(row)
        keys = [float("inf") if np.isnan(value) else value for value in row]
        nan = [np.isnan(value) for value in row]
        if which == "high":  # the last of equals goes first
            leaving = sorted(range(T), key=lambda t: (nan[t], keys[t], t))[T - drop :]
        else:
            leaving = sorted(range(T), key=lambda t: (nan[t], keys[t], -t))[:drop]
        kept = [t for t in range(T) if t not in leaving]
        if extra:
            row_of_words = 0 if shared else n
            words = philox(state, row_of_words + 1, len(kept))[row_of_words].tolist()
            gone = sorted(range(len(kept)), key=lambda i: (words[i], i))[:extra]
            kept = [t for i, t in enumerate(kept) if i not in gone]
        clips.append(kept)
    return torch.tensor(clips, dtype=torch.int64).view(len(clips), energy.shape[1] - drop - extra)


@st.composite
def calls(draw):
    N, T = draw(st.integers(0, 5)), draw(st.integers(1, 70))
    drop = draw(st.integers(0, T - 1))
    extra = draw(st.integers(0, T - drop - 1))
    values = draw(
        st.sampled_from(
            [
                [0.0, -0.0, 1.0, 2.0],  # many equals
                [float("nan"), -float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-45, -1.0, 3.0],
                np.linspace(-1, 1, 997).tolist(),
            ]
        )
    )
    seed = draw(st.integers(0, 2**32 - 1))
    energy = torch.tensor(np.random.default_rng(seed).choice(values, (N, T)))
    return energy, drop, draw(st.sampled_from(["high", "low"])), extra, torch.tensor([draw(int64), draw(int64)])


@settings(max_examples=150, deadline=None)
@given(call=calls(), shared=st.booleans(), dtype=st.sampled_from(cases.FLOATS))
def test_is_the_definition_on_every_backend(call, shared, dtype):
    energy, drop, which, extra, state = call
    energy = energy.to(dtype)
    expected = by_hand(energy, drop, which, extra, state, shared)
    for backend in cases.BACKENDS:
        assert torch.equal(frame_mask(energy, drop, which, extra, state, shared, backend=backend), expected), backend


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_example_of_pstl(backend):
    energy = torch.rand(128, 50)
    kept = frame_mask(energy, 10, "high", 10, rng.seed_tensor(3), backend=backend)
    assert kept.shape == (128, 30) and kept.dtype == torch.int64
    assert (kept.diff(dim=1) > 0).all()
    gone = torch.ones(128, 50, dtype=torch.bool).scatter_(1, frame_mask(energy, 10, "high", backend=backend), False)
    assert (energy[gone].view(128, 10).amin(1) >= energy[~gone].view(128, 40).amax(1)).all()


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize(("which", "kept"), [("high", [0, 1, 3]), ("low", [0, 1, 2])])
def test_among_equals_the_earlier_frame_stays(backend, which, kept):
    # Frames 0, 1, 3 and 4 are equal; 2 is the most (high) or belongs to those that stay (low).
    energy = torch.tensor([[1.0, 1.0, 5.0, 1.0, 1.0]])
    assert frame_mask(energy, 2, which, backend=backend).tolist() == [kept]


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_nan_is_most_energy_and_minus_zero_is_zero(backend):
    energy = torch.tensor([[0.0, float("nan"), float("inf"), -0.0, -float("inf")]])
    assert frame_mask(energy, 1, "high", backend=backend).tolist() == [[0, 2, 3, 4]]
    assert frame_mask(energy, 4, "low", backend=backend).tolist() == [[1]]
    assert frame_mask(energy, 2, "low", backend=backend).tolist() == [[0, 1, 2]]  # -inf, then the later of the zeros


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_any_strides(dtype):
    energy = torch.randn(7, 50).to(dtype)
    expected = frame_mask(energy, 13, "low", backend="reference")
    layouts = cases.layouts(energy) | {
        "transposed": energy.T.contiguous().T,
        "backward": energy.flip(0).flip(1).contiguous().flip(0).flip(1),
    }
    for layout, x in layouts.items():
        assert torch.equal(frame_mask(x, 13, "low"), expected), layout
    row = energy[:1].expand(5, 50)
    assert torch.equal(frame_mask(row, 13, "low"), expected[:1].expand(5, -1))


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("T", [3000, 4099])
def test_long_clips(backend, T):
    energy = torch.randint(0, 700, (3, T)).double()  # with equals
    state = rng.seed_tensor(5)
    for which in ("high", "low"):
        kept = frame_mask(energy, T // 3, which, 100, state, False, backend=backend)
        assert torch.equal(kept, by_hand(energy, T // 3, which, 100, state, False))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_a_clip_does_not_know_its_batch(backend):
    energy, state = torch.rand(40, 30), rng.seed_tensor(9, call=2)
    whole = frame_mask(energy, 5, "high", 7, state, False, backend=backend)
    for n in (1, 13, 39):
        assert torch.equal(frame_mask(energy[:n], 5, "high", 7, state, False, backend=backend), whole[:n])
    shared = frame_mask(energy, 5, "high", 7, state, True, backend=backend)
    assert torch.equal(shared[:1], whole[:1])  # the shared draw is row 0
    assert torch.equal(frame_mask(energy[20:], 5, "high", 7, state, True, backend=backend), shared[20:])


def test_shared_removes_the_same_positions_and_else_each_its_own():
    energy = torch.rand(1, 40).expand(64, 40)
    state = rng.seed_tensor(1)
    assert frame_mask(energy, 5, "high", 5, state, True).unique(dim=0).shape[0] == 1
    assert frame_mask(energy, 5, "high", 5, state, False).unique(dim=0).shape[0] > 50


def test_extra_is_uniform_over_the_frames_that_stay():
    rows, stay, extra = 40_000, 12, 3
    energy = torch.arange(15.0).expand(rows, 15)  # frames 0..11 stay
    kept = frame_mask(energy, 3, "high", extra, rng.seed_tensor(7), False)
    removed = 1 - torch.bincount(kept.flatten(), minlength=15)[:stay].double() / rows
    p = extra / stay
    assert ((removed - p).abs() < 5 * (p * (1 - p) / rows) ** 0.5).all()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_empty_axes_and_nothing_to_remove(backend):
    assert frame_mask(torch.zeros(0, 9), 3, backend=backend).shape == (0, 6)
    assert frame_mask(torch.zeros(4, 0), 0, backend=backend).shape == (4, 0)
    assert frame_mask(torch.rand(2, 5), 0, backend=backend).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert frame_mask(torch.tensor([[2.0, 1.0]]), 1, backend=backend).tolist() == [[1]]


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_energy_may_require_grad(backend, recwarn):
    energy = torch.rand(3, 8, requires_grad=True)
    kept = frame_mask(energy, 2, backend=backend)
    assert not kept.requires_grad
    energy.gather(1, kept).sum().backward()
    assert energy.grad.sum(1).tolist() == [6.0] * 3
    assert not recwarn.list


def test_opcheck():
    energy = torch.rand(3, 9, requires_grad=True)
    cases.check_op("frame_mask", (energy, 2, "low", 0, None, True))
    cases.check_op("frame_mask", (energy.detach().to(torch.bfloat16), 2, "high", 3, torch.tensor([1, 2]), False))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    def kept_energy(energy, state):
        energy = energy * 2
        return energy.gather(1, frame_mask(energy, 3, "high", 2, state, False, backend=backend))

    cases.check_compiled(
        kept_energy, (torch.rand(4, 11), rng.seed_tensor(1)), (torch.rand(4, 11), rng.seed_tensor(2, call=3))
    )


def test_compiled_for_any_batch():
    torch._dynamo.reset()
    compiled = torch.compile(lambda energy: frame_mask(energy, 3, "low"), fullgraph=True, dynamic=True, backend="eager")
    for n in (3, 4, 9):
        energy = torch.rand(n, 12)
        assert torch.equal(compiled(energy), frame_mask(energy, 3, "low"))


def test_threads_do_not_change_a_bit():
    energy, state = torch.rand(1000, 50), rng.seed_tensor(4)
    cases.check_threads(lambda: frame_mask(energy, 10, "high", 10, state, False))
    cases.check_concurrent(lambda: frame_mask(energy, 10, "low", 10, state, True))


DIGEST = """
import torch, asma_kernels as asma
bits = asma.philox(torch.tensor([1, 2]), 16, 64)
for dtype in (torch.float64, torch.float32, torch.float16):
    energy = (bits % 97).to(dtype)
    for which in ("high", "low"):
        print(asma.frame_mask(energy, 9, which, 7, torch.tensor([5, 6]), False).tolist())
"""


def test_every_instruction_set_gives_the_same():
    answers = set()
    for isa in ("generic", "avx2", "avx512"):
        environment = os.environ | {"ASMA_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}
        answers.add(
            subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, check=True, env=environment).stdout
        )
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": torch.zeros(5)}, r"frame_mask: energy must be \(N, T\), got shape \(5,\)"),
        ({"energy": torch.zeros(1, 5, dtype=torch.int64)}, "frame_mask: energy must be float64.*got torch.int64"),
        ({"drop": 60}, r"frame_mask: drop must be in \[0, T\), got 60 with T = 50"),
        ({"drop": 50}, r"frame_mask: drop must be in \[0, T\), got 50 with T = 50"),
        ({"drop": -1}, r"frame_mask: drop must be in \[0, T\), got -1 with T = 50"),
        ({"which": "most"}, "frame_mask: which must be one of high, low, got 'most'"),
        ({"extra": 40}, r"frame_mask: extra must be in \[0, T - drop\), got 40 with T = 50 and drop = 10"),
        ({"extra": -1}, r"frame_mask: extra must be in \[0, T - drop\), got -1"),
        ({"extra": 3, "rng": None}, "frame_mask: rng must be given with extra > 0, got None with extra = 3"),
        ({"rng": torch.tensor([1])}, r"frame_mask: rng must be \[seed, call\], got shape \(1,\)"),
        ({"rng": torch.tensor([1.0, 2.0])}, "frame_mask: rng must be torch.int64"),
        ({"rng": torch.zeros(2, dtype=torch.int64, device="meta")}, "frame_mask: rng must be on cpu, got meta"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"energy": torch.zeros(1, 50), "drop": 10, "rng": torch.tensor([0, 0])} | change
    with pytest.raises((ValueError, TypeError), match=message):
        frame_mask(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(5), 1, "high", 0, None, True), r"energy \(N, T\) must have 2 axes, got 1"),
        ((torch.zeros(1, 5), 6, "high", 0, None, True), "drop and extra must be >= 0 and at most T together"),
        ((torch.zeros(1, 5), 3, "high", 3, torch.tensor([0, 0]), True), "drop and extra must be >= 0"),
        ((torch.zeros(1, 5), -1, "high", 0, None, True), "drop and extra must be >= 0"),
        ((torch.zeros(1, 5), 1, "most", 0, None, True), "which must be high or low"),
        ((torch.zeros(1, 5), 1, "high", 1, None, True), "rng must be given with extra > 0"),
        ((torch.zeros(1, 5), 1, "high", 1, torch.tensor([1]), True), r"rng must be int64 \[seed, call\]"),
        ((torch.zeros(1, 5, dtype=torch.int32), 1, "high", 0, None, True), "dtype must be float64"),
    ],
)
def test_the_op_called_directly_checks_as_well(arguments, message):
    with pytest.raises(RuntimeError, match="frame_mask: " + message):
        torch.ops.asma.frame_mask(*arguments)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize(
    ("N", "T"), [(0, 9), (3, 0), (5, 1), (9, 50), (3, 65), (2, 129), (2, 512), (2, 513), (1, 1100)]
)
def test_cuda_kernels_on_the_cpu(emulated, N, T, dtype):
    state = torch.tensor([-(2**60), 2**41 + 5]).repeat_interleave(3)[::3]
    draws = np.random.default_rng(T)
    special = [0.0, -0.0, float("nan"), -float("nan"), float("inf"), -float("inf"), 1e-45, -1.0, 3.0]
    energies = (torch.tensor(draws.choice(special, (N, T))), torch.tensor(draws.standard_normal((N, T))))
    drops = [(0, 0), (T // 5, 0), (T // 3, T // 3), (T, 0), (0, T // 2), (T - T // 4, T // 4)]
    for energy, (drop, extra), which in itertools.product(energies, drops, ("high", "low")):
        for shared in (True, False):
            call = (drop, which, extra, state, shared)
            expected = reference.frame_mask(energy.to(dtype), *call)
            assert torch.equal(emulated.frame_mask(energy.to(dtype), *call), expected)
    for x in cases.layouts(energies[1].to(dtype)).values():
        assert torch.equal(emulated.frame_mask(x, *call), expected)


def test_cuda_kernels_go_on_to_further_clips(emulated):
    energy, state = torch.rand(8200, 3), rng.seed_tensor(4)  # more than 2048 blocks of 4 clips
    expected = frame_mask(energy, 1, "low", 1, state, False, backend="reference")
    assert torch.equal(emulated.frame_mask(energy, 1, "low", 1, state, False), expected)


def test_cuda_kernels_draw_as_the_reference_for_any_seed(emulated):
    for seed in range(60):
        energy = torch.rand(1 + seed % 13, 50, generator=torch.Generator().manual_seed(seed))
        call = (10, ("high", "low")[seed % 2], 10, torch.tensor([seed * 2**57 - 3, seed**9]), seed % 3 == 0)
        assert torch.equal(emulated.frame_mask(energy, *call), frame_mask(energy, *call, backend="reference")), seed
