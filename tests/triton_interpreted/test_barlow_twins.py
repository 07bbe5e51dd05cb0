import cases
import pytest
import torch
from torch.library import opcheck

from asma_kernels import barlow_twins

# The exact result is that of the rounded inputs, so a gradient of a half type is off by its own rounding alone.
GRADIENT = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 1e-3}


def two_views(N, D, dtype=torch.float64):
    clip = torch.randn(N, D, dtype=torch.float64) * torch.linspace(0.1, 3, D, dtype=torch.float64) + 1
    return [(clip + torch.randn_like(clip)).to(dtype) for _ in range(2)]


def check(z1, z2, lambd=0.01, tolerance=None):
    """Loss and gradients against the float64 reference."""

    def run(backend):
        return lambda p, q: 1024 * barlow_twins(p, q, lambd, backend=backend)  # float16's smallest numbers are coarse

    exact = z1.double(), z2.double()
    loss = run("triton")(z1, z2)
    assert loss.shape == () and loss.dtype == (torch.float64 if z1.dtype == torch.float64 else torch.float32)
    rtol = 1e-12 if z1.dtype == torch.float64 else 1e-6
    torch.testing.assert_close(loss.double(), run("reference")(*exact), rtol=rtol, atol=0)
    for actual, expected in zip(
        cases.gradients(run("triton"), z1, z2), cases.gradients(run("reference"), *exact), strict=True
    ):
        assert actual.dtype == z1.dtype
        assert (actual.double() - expected).norm() <= (tolerance or GRADIENT[z1.dtype]) * expected.norm()


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("shape", [(40, 130), (70, 33)])
def test_equals_the_reference(shape, dtype):
    check(*two_views(*shape, dtype))


# One row, one column, as many of both, and sizes of several tiles of 64 and splits.
@pytest.mark.parametrize("shape", [(3, 1), (2, 7), (32, 32), (66, 67), (130, 66)])
@pytest.mark.parametrize("lambd", [1.0, 0.0])
def test_sizes(shape, lambd):
    check(*two_views(*shape), lambd, 1e-9)  # gradients of two clips are what cancellation leaves


def test_any_number_of_splits(monkeypatch):
    from asma_kernels.triton._config import LAUNCH

    for programs in (1, 7):
        monkeypatch.setitem(LAUNCH["barlow_twins_products"], "PROGRAMS", programs)
        for shape in ((5, 90), (90, 5)):
            check(*two_views(*shape, torch.float32))


@pytest.mark.parametrize("shape", [(9, 20), (20, 9)])
def test_any_strides(shape):
    z1, z2 = two_views(*shape, torch.float32)
    for layout, one in cases.layouts(z1).items():
        check(one, cases.layouts(z2)["turned" if layout == "contiguous" else "contiguous"])
    check(z1[:, :1].expand(shape), z2[:, :1].expand(shape))


@pytest.mark.parametrize("shape", [(64, 80), (90, 64)])
def test_columns_far_from_zero(shape):
    check(*(view + 1000 for view in two_views(*shape, torch.float32)), 1.0, 2e-6)


@pytest.mark.parametrize("D", [1, 5])
def test_one_clip_alone_has_the_width_as_loss_and_no_gradient(D):
    z1, z2 = two_views(1, D, torch.float32)
    assert barlow_twins(z1, z2, backend="triton").item() == D
    for grad in cases.gradients(lambda p, q: barlow_twins(p, q, backend="triton"), z1, z2):
        assert torch.equal(grad, torch.zeros(1, D))


def test_no_columns_have_loss_0():
    z = torch.ones(3, 0, requires_grad=True)
    loss = barlow_twins(z, z, backend="triton")
    loss.backward()
    assert loss.item() == 0 and z.grad.shape == (3, 0)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_nan_is_not_hidden(shape):
    z1, z2 = two_views(*shape)
    z1[3, 2] = float("nan")
    assert barlow_twins(z1, z2, backend="triton").isnan()
    assert cases.gradients(lambda p, q: barlow_twins(p, q, backend="triton"), z1, z2)[1].isnan().all()


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_autocast_computes_in_float32(shape):
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        z1, z2 = two_views(*shape, dtype)
        with torch.autocast("cpu", torch.bfloat16):
            check(z1, z2)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_opcheck_and_double_backward(shape):
    z1, z2 = (view.requires_grad_() for view in two_views(*shape, torch.float32))
    ops = torch.ops.asma_triton
    opcheck(ops.barlow_twins.default, (z1, z2, 2e-4, 1e-5))
    _, statistics, products = ops.barlow_twins(z1.detach(), z2.detach(), 2e-4, 1e-5)
    rest = (torch.ones(()), z1.detach(), z2.detach(), statistics, products, 2e-4, 1e-5)
    opcheck(ops.barlow_twins_backward.default, rest)
    of_cpu = torch.ops.asma
    for own, other in (
        ((statistics, products), of_cpu.barlow_twins(z1.detach(), z2.detach(), 2e-4, 1e-5)[1:]),
        (ops.barlow_twins_backward(*rest), of_cpu.barlow_twins_backward(*rest)),
    ):
        torch.testing.assert_close(tuple(own), tuple(other))
    (grad,) = torch.autograd.grad(barlow_twins(z1, z2, backend="triton"), z1, create_graph=True)
    with pytest.raises(RuntimeError, match="barlow_twins: double backward is not implemented"):
        grad.sum().backward()
