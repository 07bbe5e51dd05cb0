import cases
import numpy as np
import pytest
import torch

from asma_kernels import philox, token_mask

RNG = torch.tensor([-7, 2**40 + 3])
VALUES = (
    [0.0, -0.0, 1.0, 2.0],  # many equals
    [float("nan"), float("inf"), 0.0, 1.0, 1e-40],
    [float("nan")],
    [-1.0, -2.0, -0.0],
    np.linspace(0, 1, 997).tolist(),
)


def assert_equal(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("values", VALUES)
def test_equals_the_reference_on_given_noise(values, dtype):
    draws = np.random.default_rng(len(values))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for tau, noises in ((0.75, [0.0, -0.0, 0.5]), (float("inf"), np.linspace(-3, 20, 555).tolist()), (0.01, [0.0])):
        score = torch.tensor(draws.choice(values, (3, 21))).to(dtype)
        noise = torch.tensor(draws.choice(noises, (3, 21))).to(wide)
        for keep in (0, 8, 21):
            expected = token_mask(score, keep, tau=tau, noise=noise, backend="reference")
            assert_equal(token_mask(score, keep, tau=tau, noise=noise, backend="triton"), expected)


@pytest.mark.parametrize("layout", ["turned", "channels_last", "every_second"])
def test_any_strides(layout):
    score, noise = torch.rand(4, 30), torch.rand(4, 30)
    expected = token_mask(score, 9, noise=noise, backend="reference")
    for x, y in ((cases.layouts(score)[layout], noise), (score, cases.layouts(noise)[layout])):
        assert_equal(token_mask(x, 9, noise=y, backend="triton"), expected)
    row = score[:1].expand(4, 30)
    assert_equal(token_mask(row, 9, RNG, backend="triton"), token_mask(row, 9, RNG, backend="reference"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("step", [1, 3])
def test_drawn_noise_is_that_of_the_definition(dtype, step):
    rng, score = RNG.repeat_interleave(step)[::step], torch.rand(5, 130).to(dtype)
    drawn = token_mask(score, 40, rng, 0.8, backend="triton")
    uniform = (philox(rng, 5, 130).double() + 0.5) / 2**32
    keys = score.double() / (0.8 * score.double().amax(1, keepdim=True)) - (-uniform.log()).log()
    # In the order of the ranks keys rise; neighbours may be the wrong way round by the rounding of the logarithms.
    order = torch.argsort(drawn.ids_restore, dim=1)
    assert (keys.gather(1, order).diff(dim=1) > (-1e-13 if dtype == torch.float64 else -4e-6)).all()
    assert torch.equal(drawn.ids_keep, order[:, :40])
    assert torch.equal(drawn.mask, (drawn.ids_restore >= 40).to(dtype))


@pytest.mark.parametrize(("N", "L", "keep"), [(0, 5, 2), (3, 0, 0), (3, 5, 0), (3, 5, 5), (2, 1, 1)])
def test_nothing_and_everything(N, L, keep):
    score = torch.rand(N, L)
    assert_equal(token_mask(score, keep, RNG, backend="triton"), token_mask(score, keep, RNG, backend="reference"))


def test_a_row_of_many_blocks():
    score = torch.randint(0, 9, (1, 1100)).float()
    noise = torch.zeros(1, 1100)
    score[0, 1050:] = float("nan")  # of the greatest key, as the lanes past the end
    expected = token_mask(score, 300, noise=noise, backend="reference")
    assert_equal(token_mask(score, 300, noise=noise, backend="triton"), expected)


def test_the_mask_is_a_constant_for_autograd():
    score = torch.rand(3, 8, requires_grad=True)
    masked = token_mask(score, 2, RNG, backend="triton")
    assert not any(tensor.requires_grad for tensor in masked)
    (score * masked.mask).sum().backward()
    assert torch.equal(score.grad, masked.mask)


def test_opcheck():
    score = torch.rand(3, 9, requires_grad=True)
    for arguments in ((score, 2, RNG, 0.7, None), (score.detach(), 4, None, 1.0, torch.rand(3, 9))):
        torch.library.opcheck(torch.ops.asma_triton.token_mask.default, arguments)
