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

from asma_kernels import philox, rng, token_mask

int64 = st.integers(-(2**63), 2**63 - 1)


def gumbel(state, N, L):
    uniform = (philox(state, N, L).double() + 0.5) / 2**32
    return -(-uniform.log()).log()


def keys_by_hand(score, tau, noise):
    """The definition read aloud, in the key's own arithmetic."""
    wide = np.float64 if score.dtype == torch.float64 else np.float32
    keys = []
    with np.errstate(all="ignore"):
        for row, added in zip(score.to(torch.float64).numpy(), noise.to(torch.float64).numpy(), strict=True):
            numbers = [wide(value) for value in row if not np.isnan(value)]
            most = wide(tau) * (max(numbers) if numbers else wide("-inf"))
            keys.append(
                [(wide(s) / most if most > 0 else wide(s) * wide(0)) + wide(g) for s, g in zip(row, added, strict=True)]
            )
    return keys


def by_hand(score, keep, tau, noise):
    N, L = score.shape
    restore = torch.empty(N, L, dtype=torch.int64)
    kept = torch.empty(N, keep, dtype=torch.int64)
    for n, keys in enumerate(keys_by_hand(score, tau, noise)):
        shuffle = sorted(range(L), key=lambda i: (bool(np.isnan(keys[i])), keys[i] if keys[i] == keys[i] else 0, i))
        kept[n] = torch.tensor(shuffle[:keep], dtype=torch.int64)
        restore[n, shuffle] = torch.arange(L)
    return kept, restore, (restore >= keep).to(score.dtype)


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


VALUES = (
    [0.0, -0.0, 1.0, 2.0],  # many equals
    [float("nan"), float("inf"), 0.0, 1.0, 1e-40],
    [0.0],
    [float("nan")],
    [-1.0, -2.0, -0.0],
    np.linspace(0, 1, 997).tolist(),
)


@settings(max_examples=150, deadline=None)
@given(
    N=st.integers(0, 4),
    L=st.integers(0, 70),
    share=st.floats(0, 1),
    tau=st.sampled_from([0.01, 0.75, 1.0, 3.0, float("inf")]),
    values=st.sampled_from(VALUES),
    noises=st.sampled_from([[0.0], [0.0, -0.0, 0.5], np.linspace(-3, 20, 555).tolist()]),
    dtype=st.sampled_from(cases.FLOATS),
    seed=st.integers(0, 2**32 - 1),
)
def test_backends_agree_exactly_on_given_noise(N, L, share, tau, values, noises, dtype, seed):
    draws = np.random.default_rng(seed)
    score = torch.tensor(draws.choice(values, (N, L))).to(dtype)
    noise = torch.tensor(draws.choice(noises, (N, L))).to(torch.float64 if dtype == torch.float64 else torch.float32)
    keep = round(share * L)
    expected = by_hand(score, keep, tau, noise)
    for backend in cases.BACKENDS:
        assert_equal(token_mask(score, keep, tau=tau, noise=noise, backend=backend), expected)


@settings(max_examples=60, deadline=None)
@given(seed=int64, call=int64, N=st.integers(1, 5), L=st.integers(1, 300), dtype=st.sampled_from(cases.FLOATS))
def test_drawn_noise_is_that_of_the_definition(seed, call, N, L, dtype):
    state = torch.tensor([seed, call])
    score = torch.rand(N, L).to(dtype)
    noise = gumbel(state, N, L)
    for backend in cases.BACKENDS:
        drawn = token_mask(score, L // 3, state, 0.8, backend=backend)
        order = torch.argsort(drawn.ids_restore, dim=1)
        # In the order of the ranks keys rise; neighbours may be the wrong way round by the rounding of the logarithms.
        keys = torch.tensor(np.array(keys_by_hand(score.double(), 0.8, noise))).gather(1, order)
        assert (keys.diff(dim=1) > (-1e-13 if dtype == torch.float64 else -4e-6)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drawn_masks_of_the_backends_are_equal_in_practice(dtype):
    # 150,000 draws; a difference is expected about once in 10^8 of float32, and never seen in float64.
    score = torch.rand(200, 750, dtype=dtype)
    state = rng.seed_tensor(8, call=1)
    assert_equal(token_mask(score, 75, state, backend="cpu"), token_mask(score, 75, state, backend="reference"))


def test_the_ends_of_the_noise():
    # The smallest and the largest of many words: u near 0 and near 1, where a sloppy logarithm gives inf.
    state, L = rng.seed_tensor(3), 2**19
    drawn = token_mask(torch.zeros(1, L), 1, state)
    words = philox(state, 1, L)[0]
    assert drawn.ids_keep.item() == words.argmin()
    assert drawn.ids_restore[0, words.argmax()] == L - 1
    assert torch.equal(drawn.ids_restore, token_mask(torch.zeros(1, L), 1, state, backend="reference").ids_restore)


def test_motion_is_masked_more_often_as_in_mamp():
    # MAMP sorts log(softmax(score / (max * tau))) + Gumbel ascending and keeps the head.
    score, tau, keep = torch.rand(60, 40), 0.3, 11
    state = rng.seed_tensor(1)
    drawn = token_mask(score, keep, state, tau)
    logits = torch.log_softmax(score / (score.amax(1, keepdim=True) * tau + 1e-10), -1)
    ids_shuffle = torch.argsort(logits + gumbel(state, 60, 40).float(), dim=1)
    assert torch.equal(drawn.ids_keep, ids_shuffle[:, :keep])
    assert torch.equal(drawn.ids_restore, torch.argsort(ids_shuffle, dim=1))
    mask = torch.ones(60, 40)
    mask[:, :keep] = 0
    assert torch.equal(drawn.mask, mask.gather(1, drawn.ids_restore))
    assert (drawn.mask * score).sum() / drawn.mask.sum() > score.mean() + 0.02


def test_one_masked_token_is_drawn_from_the_softmax():
    rows = 200_000
    score = torch.tensor([3.0, 0.0, 1.0, 2.0])
    p = torch.softmax(score / (0.5 * 3), 0).double()
    drawn = token_mask(score.expand(rows, 4), 3, rng.seed_tensor(2), 0.5)
    assert ((drawn.mask.double().mean(0) - p).abs() < 5 * (p * (1 - p) / rows).sqrt()).all()


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_code_written_for_mae_runs(backend):
    tokens = torch.randn(3, 10, 8)
    masked = token_mask(torch.rand(3, 10), 4, rng.seed_tensor(5), backend=backend)
    kept = tokens.gather(1, masked.ids_keep.unsqueeze(-1).expand(-1, -1, 8))
    filled = torch.cat([kept, torch.zeros(3, 6, 8)], 1).gather(1, masked.ids_restore.unsqueeze(-1).expand(-1, -1, 8))
    assert torch.equal(filled, tokens * (1 - masked.mask).unsqueeze(-1))
    assert masked.mask.sum(1).tolist() == [6.0] * 3


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_rows_without_motion_are_masked_by_the_noise_alone(backend):
    noise = torch.tensor([[0.3, 0.1, 0.2]]).expand(3, 3)
    score = torch.tensor([[0.0, 0.0, 0.0], [-1.0, -5.0, -0.0], [float("nan"), 0.0, 0.0]])
    kept = token_mask(score, 3, noise=noise, backend=backend).ids_keep
    assert kept.tolist() == [[1, 2, 0], [1, 2, 0], [1, 2, 0]]


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_nan_and_infinite_scores_are_masked_first(backend):
    nan, inf = float("nan"), float("inf")
    score = torch.tensor([[nan, 1.0, 0.5, nan], [inf, 1.0, 0.5, inf], [nan, nan, nan, nan]])
    masked = token_mask(score, 2, noise=torch.zeros(3, 4), backend=backend)
    assert masked.ids_keep.tolist() == [[2, 1], [1, 2], [0, 1]]
    assert masked.mask.tolist() == [[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("dtype", cases.FLOATS)
def test_any_strides(dtype):
    score, noise = torch.rand(7, 30).to(dtype), torch.rand(7, 30).double()
    expected = token_mask(score, 9, noise=noise, backend="reference")
    for layout, x in (cases.layouts(score) | {"transposed": score.T.contiguous().T}).items():
        for added in (noise, noise.T.contiguous().T):
            for part, wanted in zip(token_mask(x, 9, noise=added), expected, strict=True):
                assert torch.equal(part, wanted), layout
    row = score[:1].expand(4, 30)
    assert_equal(token_mask(row, 9, noise=noise[:1].expand(4, 30)), [a[:1].expand(4, -1) for a in expected])


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_a_row_does_not_know_its_batch(backend):
    score, state = torch.rand(40, 30), rng.seed_tensor(9, call=2)
    whole = token_mask(score, 5, state, backend=backend)
    for n in (1, 13, 39):
        assert_equal(token_mask(score[:n], 5, state, backend=backend), [a[:n] for a in whole])
    assert whole.mask.unique(dim=0).shape[0] > 30


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize(("N", "L", "keep"), [(0, 5, 2), (3, 0, 0), (3, 5, 0), (3, 5, 5), (2, 1, 1)])
def test_nothing_and_everything(backend, N, L, keep):
    masked = token_mask(torch.rand(N, L), keep, rng.seed_tensor(0), backend=backend)
    assert masked.ids_keep.shape == (N, keep)
    assert masked.ids_restore.sort(1).values.tolist() == [list(range(L))] * N
    assert (masked.mask == (0 if keep else 1)).all() and masked.mask.shape == (N, L)


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_the_mask_is_a_constant_for_autograd(backend, recwarn):
    score = torch.rand(3, 8, requires_grad=True)
    masked = token_mask(score, 2, rng.seed_tensor(0), backend=backend)
    assert not any(tensor.requires_grad for tensor in masked)
    (score * masked.mask).sum().backward()
    assert torch.equal(score.grad, masked.mask)
    noise = torch.rand(3, 8, requires_grad=True)
    assert not token_mask(score, 2, noise=noise, backend=backend).mask.requires_grad
    direct = torch.ops.asma.token_mask(score, 2, rng.seed_tensor(0), 1.0, None)
    assert not any(tensor.requires_grad for tensor in direct)
    assert not recwarn.list


def test_opcheck():
    score = torch.rand(3, 9, requires_grad=True)
    cases.check_op("token_mask", (score, 2, rng.seed_tensor(1), 0.7, None))
    cases.check_op("token_mask", (score.detach().to(torch.bfloat16), 4, None, 1.0, torch.rand(3, 9)))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_compiled(backend):
    def loss(score, state):
        masked = token_mask(score * 2, 3, state, 0.9, backend=backend)
        return (score * masked.mask).sum(1), score.gather(1, masked.ids_keep), masked.ids_restore

    cases.check_compiled(loss, (torch.rand(4, 11), rng.seed_tensor(1)), (torch.rand(4, 11), rng.seed_tensor(2, call=3)))


def test_compiled_for_any_batch_with_gradient():
    torch._dynamo.reset()
    state = rng.seed_tensor(1)

    def loss(score):
        return (score**2 * token_mask(score, 3, state).mask).sum()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (3, 4, 9):
        score = torch.rand(n, 12, requires_grad=True)
        (expected,) = torch.autograd.grad(loss(score), score)
        (grad,) = torch.autograd.grad(compiled(score), score)
        assert torch.equal(grad, expected)


def test_threads_do_not_change_a_bit():
    score, state = torch.rand(300, 100), rng.seed_tensor(4)
    cases.check_threads(lambda: token_mask(score, 30, state).ids_restore)
    cases.check_concurrent(lambda: token_mask(score, 30, state).ids_keep)


DIGEST = """
import torch, asma_kernels as asma
score = asma.philox(torch.tensor([1, 2]), 40, 300).float()
for dtype in (torch.float64, torch.float32, torch.bfloat16):
    print(asma.token_mask(score.to(dtype), 50, torch.tensor([5, 6]), 0.5).ids_restore.tolist())
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
        ({"score": torch.zeros(5)}, r"token_mask: score must be \(N, L\), got shape \(5,\)"),
        ({"score": torch.zeros(1, 9, dtype=torch.int64)}, "token_mask: score must be float64.*got torch.int64"),
        ({"keep": 10}, r"token_mask: keep must be in \[0, L\], got 10 with L = 9"),
        ({"keep": -1}, r"token_mask: keep must be in \[0, L\], got -1 with L = 9"),
        ({"tau": 0.0}, "token_mask: tau must be > 0, got 0.0"),
        ({"tau": float("nan")}, "token_mask: tau must be > 0, got nan"),
        ({"rng": None}, "token_mask: one of rng and noise must be given, got neither"),
        ({"noise": torch.zeros(1, 9)}, "token_mask: one of rng and noise must be given, got both"),
        ({"rng": torch.tensor([1])}, r"token_mask: rng must be \[seed, call\], got shape \(1,\)"),
        ({"rng": torch.zeros(2, dtype=torch.int64, device="meta")}, "token_mask: rng must be on cpu, got meta"),
        (
            {"rng": None, "noise": torch.zeros(1, 8)},
            r"token_mask: noise must be \(N, L\) = \(1, 9\) as score, got \(1, 8",
        ),
        ({"rng": None, "noise": torch.zeros(1, 9).long()}, "token_mask: noise must be float64.*got torch.int64"),
        ({"rng": None, "noise": torch.zeros(1, 9, device="meta")}, "token_mask: noise must be on cpu, got meta"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"score": torch.zeros(1, 9), "keep": 3, "rng": torch.tensor([0, 0])} | change
    with pytest.raises((ValueError, TypeError), match=message):
        token_mask(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.zeros(5)}, r"score \(N, L\) must have 2 axes, got 1"),
        ({0: torch.zeros(2, 5, dtype=torch.int32)}, "dtype must be float64"),
        ({1: 6}, r"keep must be in \[0, L\], got 6 with L = 5"),
        ({1: -1}, r"keep must be in \[0, L\], got -1"),
        ({2: None}, "one of rng and noise must be given"),
        ({2: torch.tensor([1])}, r"rng must be int64 \[seed, call\]"),
        ({3: -1.0}, "tau must be > 0, got -1"),
        ({2: None, 4: torch.zeros(2, 4)}, r"noise must be of score's shape \(N, L\)"),
        ({2: None, 4: torch.zeros(2, 5).double()}, "noise must be float32, or float64 for float64 score"),
    ],
)
def test_the_op_called_directly_checks_as_well(change, message):
    arguments = [torch.zeros(2, 5), 1, torch.tensor([0, 0]), 1.0, None]
    for place, value in change.items():
        arguments[place] = value
    with pytest.raises(RuntimeError, match="token_mask: " + message):
        torch.ops.asma.token_mask(*arguments)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize(
    ("N", "L"), [(0, 5), (3, 0), (4, 1), (3, 31), (3, 32), (2, 100), (2, 256), (2, 257), (2, 750), (1, 1024), (1, 2100)]
)
def test_cuda_kernels_on_the_cpu(emulated, N, L, dtype):
    draws = np.random.default_rng(L)
    state = torch.tensor([-(2**60), 2**41 + 5]).repeat_interleave(3)[::3]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for values, tau in itertools.product(VALUES, (0.75, float("inf"))):
        score = torch.tensor(draws.choice(values, (N, L))).to(dtype)
        noise = torch.tensor(draws.choice([0.0, -0.0, 0.5], (N, L))).to(wide)  # many equals
        for added in (noise, noise + torch.tensor(draws.standard_normal((N, L))).to(wide)):
            expected = token_mask(score, L // 3, tau=tau, noise=added, backend="reference")
            assert_equal(emulated.token_mask(score, L // 3, None, tau, added), expected)
    for keep in (0, L // 2, L):
        for x in cases.layouts(score).values():
            expected = token_mask(x, keep, state, 0.8, backend="reference")
            assert_equal(emulated.token_mask(x, keep, state, 0.8, None), expected)
    for x in cases.layouts(noise).values():
        expected = token_mask(score, L // 2, noise=x, backend="reference")
        assert_equal(emulated.token_mask(score, L // 2, None, 1.0, x), expected)


def test_cuda_kernels_draw_as_the_reference_for_any_seed(emulated):
    for seed in range(60):
        score = torch.rand(1 + seed % 13, 40 + seed, generator=torch.Generator().manual_seed(seed))
        state = torch.tensor([seed * 2**57 - 3, seed**9])
        expected = token_mask(score, 20, state, 0.5, backend="reference")
        assert_equal(emulated.token_mask(score, 20, state, 0.5, None), expected)
