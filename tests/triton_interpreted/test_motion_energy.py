import cases
import pytest
import torch
from torch.library import opcheck

import asma_kernels
from asma_kernels import motion_energy

REDUCE = ("frame", "joint", "frame_joint")


def check(x, *arguments):
    """Forward and backward against the float64 reference."""

    def run(backend):
        return lambda x: motion_energy(x, *arguments, backend=backend)

    exact = x.double()
    cases.assert_close(run("triton")(x), run("reference")(exact), x.dtype)
    (grad,), (expected,) = cases.gradients(run("triton"), x), cases.gradients(run("reference"), exact)
    assert grad.dtype == x.dtype
    cases.assert_close(grad, expected, x.dtype)


@pytest.mark.parametrize("dtype", cases.FLOATS)
@pytest.mark.parametrize("reduce", REDUCE)
def test_equals_the_reference(dtype, reduce):
    check(torch.randn(2, 3, 17, 33, 2, dtype=torch.float64).to(dtype), reduce)


@pytest.mark.parametrize("layout", ["turned", "channels_last", "every_second"])
def test_any_strides(layout):
    check(cases.layouts(torch.randn(2, 3, 17, 5, 2))[layout], "frame_joint")
    check(torch.randn(1, 3, 6, 1, 1).expand(3, 3, 6, 5, 2), "joint")


@pytest.mark.parametrize("reduce", REDUCE)
@pytest.mark.parametrize("boundary", ["zero_last", "copy_first"])
@pytest.mark.parametrize(("p", "stride"), [(2.0, 1), (1.0, 3), (1.5, 2), (2.0, 99)])
def test_every_option(reduce, boundary, p, stride):
    x = torch.randn(4, 2, 18, 3, 1, dtype=torch.float64)
    check(x, reduce, p, stride, boundary, torch.tensor([18, 4, 1, 0]))
    check(x[:, :, :5], reduce, p, stride, boundary)


@pytest.mark.parametrize("shape", [(0, 3, 5, 4, 1), (2, 0, 5, 4, 1), (2, 3, 0, 4, 1), (2, 3, 5, 0, 1), (2, 3, 5, 4, 0)])
@pytest.mark.parametrize("reduce", REDUCE)
def test_empty_axes_give_zeros(shape, reduce):
    x = torch.ones(shape, requires_grad=True)
    energy = motion_energy(x, reduce, backend="triton")
    assert torch.equal(energy, torch.zeros_like(energy))
    energy.sum().backward()
    assert x.grad.shape == x.shape


def test_nan_stays_where_it_is():
    x = torch.zeros(1, 3, 5, 4, 1)
    x[0, 0, 2, 1, 0] = float("nan")
    energy = motion_energy(x, "frame_joint", backend="triton")
    assert energy.isnan().nonzero().tolist() == [[0, 1, 1], [0, 2, 1]]


def test_opcheck_and_double_backward():
    x = torch.randn(2, 3, 5, 4, 1, requires_grad=True)
    ops = torch.ops.asma_triton
    opcheck(ops.motion_energy.default, (x, "frame", 2.0, 1, "zero_last", torch.tensor([5, 3])))
    opcheck(ops.motion_energy_backward.default, (torch.ones(2, 5), x.detach(), "frame", 2.0, 1, "zero_last", None))
    (grad,) = torch.autograd.grad(motion_energy(x, backend="triton").sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="motion_energy: double backward is not implemented"):
        grad.sum().backward()


def test_compiled():
    shapes = (2, 3, 8, 5, 1)
    cases.check_compiled(
        lambda x: motion_energy(x * 2, "joint", backend="triton").sqrt(), (torch.randn(shapes),), (torch.randn(shapes),)
    )


def test_chosen_by_name_and_never_by_auto():
    x = torch.randn(1, 3, 5, 4, 1)
    with asma_kernels.backend("triton"):
        assert torch.equal(motion_energy(x), motion_energy(x, backend="triton"))
    assert asma_kernels.explain("motion_energy").startswith("motion_energy on cpu: cpu")
    assert "triton" not in asma_kernels.explain("motion_energy")
