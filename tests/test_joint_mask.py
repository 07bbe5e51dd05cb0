import itertools
import math
import os
import subprocess
import sys

import cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma_kernels import Skeleton, high_degree_weights, joint_mask, low_degree_weights, philox, rng

MODE = ("fixed", "tokens", "deterministic")
NTU25 = [3, 2, 2, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 1, 4, 1, 2, 1, 2]
int64 = st.integers(-(2**63), 2**63 - 1)


def by_hand(weights, k, words, mode):
    """The masked joints of one row: the definition read aloud."""
    V = len(weights)
    weights = [max(w, 0) for w in weights]
    owner = [v for v, w in enumerate(weights) for _ in range(w)]
    if mode == "deterministic":
        return set(sorted(range(V), key=lambda v: (-weights[v], v))[:k])
    if mode == "tokens":
        return {owner[i] for i in sorted(range(len(owner)), key=lambda i: (words[i], i))[:k]}
    keys = [2**32 - 1] * V
    for i, v in enumerate(owner):
        keys[v] = min(keys[v], words[i])
    return set(sorted(range(V), key=lambda v: (keys[v], v))[:k])


@settings(max_examples=150, deadline=None)
@given(
    weights=st.lists(st.integers(-1, 6), min_size=0, max_size=40),
    share=st.floats(0, 1),
    rows=st.integers(0, 20),
    mode=st.sampled_from(MODE),
    shared=st.booleans(),
    seed=int64,
    call=int64,
)
def test_is_the_definition_on_every_backend(weights, share, rows, mode, shared, seed, call):
    V, k = len(weights), round(share * len(weights))
    state = torch.tensor([seed, call])
    words = philox(state, max(rows, 1), sum(max(w, 0) for w in weights)).tolist()
    masked = [by_hand(weights, k, words[0 if shared else n], mode) for n in range(rows)]
    kept = [[v for v in range(V) if v not in row] for row in masked]
    width = V if mode == "tokens" else V - k
    for backend in cases.BACKENDS:
        drawn = joint_mask(torch.tensor(weights, dtype=torch.int64), k, rows, state, mode, shared, backend=backend)
        assert drawn.mask.shape == (rows, V) and drawn.mask.dtype == torch.bool
        assert [set(row.nonzero().flatten().tolist()) for row in drawn.mask] == masked
        assert drawn.kept.shape == (rows, width)
        assert drawn.kept.tolist() == [row + [-1] * (width - len(row)) for row in kept]
        assert drawn.count.tolist() == [len(row) for row in kept]


def test_large_skeletons_and_weights():
    weights = torch.tensor(np.random.default_rng(0).integers(0, 20, 150))
    for mode, shared in itertools.product(MODE, (True, False)):
        drawn = joint_mask(weights, 40, 35, rng.seed_tensor(1), mode, shared, backend="cpu")
        expected = joint_mask(weights, 40, 35, rng.seed_tensor(1), mode, shared, backend="reference")
        assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))


def test_tokens_follow_the_closed_form_of_pstl():
    # A joint of degree d stays if none of its d tokens is among the 8 of 48 drawn.
    assert sum(NTU25) == 48 and tuple(NTU25) == Skeleton.builtin("ntu25").degrees
    rows = 200_000
    drawn = joint_mask(high_degree_weights(NTU25), 8, rows, rng.seed_tensor(11), "tokens", False)
    for degree, rounded in ((1, 0.167), (2, 0.309), (3, 0.429), (4, 0.530)):
        p = 1 - math.comb(48 - degree, 8) / math.comb(48, 8)
        assert round(p, 3) == rounded
        deviation = (p * (1 - p) / rows) ** 0.5
        for v in (v for v in range(25) if NTU25[v] == degree):
            assert abs(drawn.mask[:, v].double().mean() - p) < 5 * deviation, v
    assert drawn.count.min() >= 25 - 8 and drawn.count.max() <= 24


def test_fixed_draws_the_first_joint_in_proportion_to_its_weight():
    rows, weights = 200_000, high_degree_weights(NTU25)
    drawn = joint_mask(weights, 1, rows, rng.seed_tensor(12), "fixed", False)
    p = weights / 48
    assert ((drawn.mask.double().mean(0) - p).abs() < 5 * (p * (1 - p) / rows).sqrt()).all()


def test_fixed_is_weighted_sampling_without_replacement():
    # Every set of 3 of 5 joints, against the sum over the orders in which they can be drawn one after the other.
    weights, rows = [1, 4, 2, 0, 3], 200_000
    masks = joint_mask(weights, 3, rows, rng.seed_tensor(13), "fixed", False).mask
    code = (masks.long() << torch.arange(5)).sum(1)
    for chosen in itertools.combinations(range(5), 3):
        p = 0.0
        for order in itertools.permutations(chosen):
            left, way = sum(weights), 1.0
            for v in order:
                way *= weights[v] / left
                left -= weights[v]
            p += way
        seen = (code == sum(1 << v for v in chosen)).double().mean()
        assert abs(seen - p) <= 5 * (p * (1 - p) / rows) ** 0.5, chosen


def test_fixed_agrees_with_an_independent_simulation():
    rows, draws = 100_000, np.random.default_rng(5)
    weights = low_degree_weights(NTU25)
    p = (weights / weights.sum()).numpy()
    # Exponential races: joint v arrives after Exp(w_v); the first 8 are a weighted sample without replacement.
    arrival = draws.exponential(size=(rows, 25)) / p
    simulated = np.zeros((rows, 25))
    np.put_along_axis(simulated, np.argsort(arrival, 1)[:, :8], 1.0, 1)
    ours = joint_mask(weights, 8, rows, rng.seed_tensor(14), "fixed", False).mask.numpy()
    for moment in (lambda mask: mask.mean(0), lambda mask: mask.T @ mask / rows):  # joints, and pairs of them
        a, b = moment(simulated), moment(ours.astype(float))
        deviation = np.sqrt((a * (1 - a) + b * (1 - b)) / rows) + 1e-12
        assert (np.abs(a - b) < 5 * deviation).all()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_deterministic_masks_the_heaviest(backend):
    drawn = joint_mask([1, 4, 2, 4, 0, 2], 3, 2, mode="deterministic", backend=backend)
    assert drawn.mask.tolist() == [[False, True, True, True, False, False]] * 2
    assert drawn.kept.tolist() == [[0, 4, 5]] * 2


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_joints_without_tokens_are_masked_last(backend):
    weights = torch.tensor([0, 2, -7, 1, 0])
    state = rng.seed_tensor(2)
    assert joint_mask(weights, 2, 50, state, "fixed", False, backend=backend).mask.unique(dim=0).tolist() == [
        [False, True, False, True, False]
    ]
    assert joint_mask(weights, 4, 3, state, "fixed", False, backend=backend).kept.tolist() == [[4]] * 3
    tokens = joint_mask(weights, 5, 3, state, "tokens", False, backend=backend)  # more than there are
    assert tokens.kept.tolist() == [[0, 2, 4, -1, -1]] * 3 and tokens.count.tolist() == [3] * 3


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("mode", ["fixed", "tokens"])
def test_a_row_does_not_know_its_batch(backend, mode):
    weights, state = high_degree_weights(NTU25), rng.seed_tensor(21, call=3)
    whole = joint_mask(weights, 8, 70, state, mode, False, backend=backend)
    for n in (1, 5, 16, 33, 69):
        part = joint_mask(weights, 8, n, state, mode, False, backend=backend)
        assert all(torch.equal(a, b[:n]) for a, b in zip(part, whole, strict=True))
    shared = joint_mask(weights, 8, 9, state, mode, True, backend=backend)
    assert all(torch.equal(a, b[:1].expand_as(a)) for a, b in zip(shared, whole, strict=True))
    assert whole.mask.unique(dim=0).shape[0] > 60
    shared.mask[0] = False  # rows are rows of memory, not one row seen many times
    assert shared.mask[1].any()


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("mode", MODE)
def test_nothing_and_everything(backend, mode):
    state = rng.seed_tensor(0)
    for rows, V, k in ((0, 5, 2), (3, 0, 0), (3, 5, 0)):
        drawn = joint_mask(torch.ones(V, dtype=torch.int64), k, rows, state, mode, backend=backend)
        assert drawn.mask.sum() == 0 and drawn.kept.shape == (rows, V if mode == "tokens" else V - k)
        assert drawn.count.tolist() == [V] * rows
    drawn = joint_mask([1, 1, 1], 3, 2, state, mode, backend=backend)
    assert drawn.mask.all() and drawn.count.tolist() == [0, 0] and (drawn.kept == -1).all()


def test_weights_of_any_stride_and_as_numbers():
    weights = torch.tensor(NTU25 * 2)[::2]
    state = rng.seed_tensor(6)
    expected = joint_mask(weights.contiguous(), 8, 9, state)
    assert torch.equal(joint_mask(weights, 8, 9, state).mask, expected.mask)
    assert torch.equal(joint_mask(weights.tolist(), 8, 9, state).mask, expected.mask)
    assert torch.equal(joint_mask(tuple(weights.tolist()), 8, 9, state).mask, expected.mask)


def test_weights_of_a_skeleton():
    skeleton = Skeleton.builtin("ntu25")
    high, low = high_degree_weights(skeleton.degrees), low_degree_weights(torch.tensor(skeleton.degrees))
    assert high.tolist() == NTU25 and low.tolist() == [5 - degree for degree in NTU25]
    assert joint_mask(high, 1, 1, mode="deterministic").mask[0].nonzero().tolist() == [[20]]
    assert joint_mask(low, 1, 1, mode="deterministic").mask[0].nonzero().tolist() == [[3]]


def test_opcheck():
    weights, state = high_degree_weights(NTU25), rng.seed_tensor(1)
    for mode in MODE:
        cases.check_op("joint_mask", (weights, 8, 5, state, mode, False))
    torch.library.opcheck(torch.ops.asma_reference.draw_joints.default, (weights, 8, 5, state, "fixed"))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    degrees = tuple(NTU25)  # a sequence is a constant of the graph

    def masked(state, energy):
        tensor = joint_mask(high_degree_weights(degrees), 8, energy.shape[0], state, "tokens", False, backend=backend)
        numbers = joint_mask(degrees, 8, energy.shape[0], state, backend=backend)
        return energy.masked_fill(tensor.mask, 0).sum(1) + tensor.count, energy.gather(1, numbers.kept)

    cases.check_compiled(
        masked, (rng.seed_tensor(1), torch.rand(4, 25)), (rng.seed_tensor(-5, call=9), torch.rand(4, 25))
    )


def test_compiled_for_any_batch():
    torch._dynamo.reset()
    weights, state = high_degree_weights(NTU25), rng.seed_tensor(1)

    def kept(x):
        return joint_mask(weights, 8, x.shape[0], state, "fixed", False).kept

    compiled = torch.compile(kept, fullgraph=True, dynamic=True, backend="eager")
    for n in (3, 4, 9):
        assert torch.equal(compiled(torch.rand(n, 2)), kept(torch.rand(n, 2)))


def test_threads_do_not_change_a_bit():
    weights, state = high_degree_weights(NTU25), rng.seed_tensor(1)
    for mode in MODE:
        cases.check_threads(lambda mode=mode: joint_mask(weights, 8, 2000, state, mode, False).kept)
    cases.check_concurrent(lambda: joint_mask(weights, 8, 500, state, "tokens", False).mask)


DIGEST = """
import torch, asma_kernels as asma
for mode in ("fixed", "tokens"):
    print(asma.joint_mask([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5], 4, 37, torch.tensor([5, 6]), mode, False).kept.tolist())
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
        ({"weights": torch.ones(2, 3, dtype=torch.int64)}, r"joint_mask: weights must be \(V\), got shape \(2, 3\)"),
        ({"weights": torch.ones(25)}, "joint_mask: weights must be torch.int64, got torch.float32"),
        ({"weights": [1, -2, 3], "k": 1}, r"joint_mask: weights must be >= 0, got \[1, -2, 3\]"),
        ({"k": 26}, r"joint_mask: k must be in \[0, V\], got 26 with V = 25"),
        ({"k": -1}, r"joint_mask: k must be in \[0, V\], got -1 with V = 25"),
        ({"rows": -1}, r"joint_mask: rows must be in \[0, 2\^32\), got -1"),
        ({"mode": "exact"}, "joint_mask: mode must be one of fixed, tokens, deterministic, got 'exact'"),
        ({"rng": None}, "joint_mask: rng must be given with mode 'fixed', got None"),
        ({"rng": torch.tensor([1])}, r"joint_mask: rng must be \[seed, call\], got shape \(1,\)"),
        ({"rng": torch.zeros(2, dtype=torch.int64, device="meta")}, "joint_mask: rng must be on cpu, got meta"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"weights": high_degree_weights(NTU25), "k": 8, "rows": 4, "rng": torch.tensor([0, 0])} | change
    with pytest.raises((ValueError, TypeError), match=message):
        joint_mask(**arguments)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("weights", [[2**20], [2**62, 2**62, 2**62], [2**19, 2**19]])
def test_too_many_tokens(backend, weights):
    with pytest.raises((ValueError, RuntimeError), match=r"joint_mask: weights must sum to less than 2\^20"):
        joint_mask(torch.tensor(weights), 1, 1, rng.seed_tensor(0), backend=backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.ones(3)}, "weights must be int64"),
        ({0: torch.ones(2, 3, dtype=torch.int64)}, r"weights \(V\) must have 1 axes, got 2"),
        ({0: torch.ones(6, dtype=torch.int64)[::2]}, "weights must be contiguous"),
        ({1: 4}, r"k must be in \[0, V\], got 4 with V = 3"),
        ({1: -1}, r"k must be in \[0, V\], got -1"),
        ({2: -1}, r"rows must be in \[0, 2\^32\), got -1"),
        ({3: None}, "rng must be given with mode fixed"),
        ({3: torch.tensor([1, 2, 3])}, r"rng must be int64 \[seed, call\], got 3 numbers"),
        ({4: "exact"}, "mode must be fixed, tokens or deterministic, got exact"),
    ],
)
def test_the_op_called_directly_checks_as_well(change, message):
    arguments = [torch.ones(3, dtype=torch.int64), 1, 2, torch.tensor([0, 0]), "fixed", True]
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(RuntimeError, match="joint_mask: " + message):
        torch.ops.asma.joint_mask(*arguments)


@pytest.mark.parametrize("mode", MODE)
@pytest.mark.parametrize(
    ("rows", "V", "largest"),
    [(0, 5, 3), (3, 0, 3), (2, 1, 2), (9, 25, 4), (5, 32, 0), (3, 33, 9), (2, 256, 2), (2, 300, 3)],
)
def test_cuda_kernels_on_the_cpu(emulated, rows, V, largest, mode):
    weights = torch.tensor(np.random.default_rng(V).integers(-1, largest + 1, V))
    state = torch.tensor([-(2**60), 2**41 + 5]).repeat_interleave(3)[::3]
    for k, shared in itertools.product({0, V // 3, V - V // 5, V}, (True, False)):
        call = (weights, k, rows, state, mode, shared)
        expected = joint_mask(*call, backend="reference")
        for found, wanted in zip(emulated.joint_mask(*call), expected, strict=True):
            assert torch.equal(found, wanted), (k, shared)


@pytest.mark.parametrize("mode", ["fixed", "tokens"])
@pytest.mark.parametrize("shared", [True, False])
def test_cuda_kernels_go_on_to_further_rows(emulated, mode, shared):
    call = (torch.arange(3), 1, 8200, rng.seed_tensor(4), mode, shared)  # more than 2048 blocks of 4 rows
    expected = joint_mask(*call, backend="reference")
    assert all(torch.equal(a, b) for a, b in zip(emulated.joint_mask(*call), expected, strict=True))


def test_cuda_kernels_go_on_to_further_rows_of_many_joints(emulated):
    weights = torch.zeros(257, dtype=torch.int64)
    weights[99] = 1
    call = (weights, 1, 2060, None, "deterministic", True)  # more than 2048 blocks of a row
    expected = joint_mask(*call, backend="reference")
    assert all(torch.equal(a, b) for a, b in zip(emulated.joint_mask(*call), expected, strict=True))


def test_cuda_kernels_draw_as_the_reference_for_any_seed(emulated):
    weights = (high_degree_weights(NTU25), low_degree_weights(NTU25))
    for seed in range(60):
        state = torch.tensor([seed * 2**57 - 3, seed**9])
        call = (weights[seed % 2], 8, 1 + seed % 13, state, MODE[seed // 2 % 2], seed % 5 == 0)
        expected = joint_mask(*call, backend="reference")
        assert all(torch.equal(a, b) for a, b in zip(emulated.joint_mask(*call), expected, strict=True)), seed


def test_cuda_kernels_leave_out_tokens_past_the_most(emulated):
    # The weights cannot be checked there: their values are on the device.
    for mode in MODE:
        mask, kept, count = emulated.joint_mask(torch.tensor([0, 2**62, 2**62]), 1, 1, rng.seed_tensor(4), mode, True)
        assert mask.tolist() == [[False, True, False]] and kept[0, :2].tolist() == [0, 2] and count.tolist() == [2]
