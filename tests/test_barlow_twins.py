import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

import asma_kernels
from asma_kernels import barlow_twins
from asma_kernels.nn import BarlowTwinsLoss

# Both regimes; sizes below, at and above a panel of 32, a step of 1024 and a block of 96 or 128 rows.
SHAPES = [(128, 600), (3, 1100), (5, 33), (140, 141), (1, 3), (1, 1), (2, 1), (33, 32), (32, 32), (1100, 40), (97, 65)]


def by_hand(z1, z2, lambd=2e-4, eps=1e-5):
    """The definition read aloud: the (D, D) matrix, column by column."""
    z1, z2 = z1.double(), z2.double()
    N, D = z1.shape
    standard = []
    for z in (z1, z2):
        centred = z - z.sum(0) / N
        standard.append(centred / ((centred**2).sum(0) / N + eps).sqrt())
    c = standard[0].T @ standard[1] / N
    on_diagonal = torch.eye(D, dtype=torch.bool)
    return ((c[on_diagonal] - 1) ** 2).sum() + lambd * (c[~on_diagonal] ** 2).sum()


def two_views(N, D, dtype=torch.float64):
    clip = torch.randn(N, D, dtype=torch.float64) * torch.linspace(0.1, 3, D, dtype=torch.float64) + 1
    return [(clip + torch.randn_like(clip)).to(dtype) for _ in range(2)]


def assert_as_exact(actual, expected, tolerance):
    assert (actual.double() - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("lambd", [2e-4, 1.0, 0.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_definition(backend, shape, lambd):
    z1, z2 = two_views(*shape)
    loss = barlow_twins(z1, z2, lambd, backend=backend)
    assert loss.dtype == torch.float64 and loss.shape == ()
    torch.testing.assert_close(loss, by_hand(z1, z2, lambd), rtol=1e-10, atol=1e-10)
    expected = cases.gradients(lambda z1, z2: by_hand(z1, z2, lambd), z1, z2)
    actual = cases.gradients(lambda z1, z2: barlow_twins(z1, z2, lambd, backend=backend), z1, z2)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# The inputs' own rounding does not count: the exact result is that of the rounded numbers. So a gradient of a half type
# is off by its own rounding alone.
@pytest.mark.parametrize(
    ("dtype", "gradient"),
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 4e-3), (torch.float16, 1e-3)],
)
@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("shape", [(40, 130), (150, 70)])
def test_dtypes_and_layouts(backend, shape, dtype, gradient):
    z1, z2 = two_views(*shape, dtype)
    exact = by_hand(z1, z2)
    expected = cases.gradients(by_hand, z1.double(), z2.double())
    for layout, one in cases.layouts(z1).items():
        other = cases.layouts(z2)["turned" if layout == "contiguous" else "contiguous"]
        loss = barlow_twins(one, other, backend=backend)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32), layout
        torch.testing.assert_close(loss.double(), exact, rtol=1e-12 if dtype == torch.float64 else 1e-6, atol=0)
        # 1024: gradients of a mean over N clips are small, and float16's smallest numbers are coarse.
        actual = cases.gradients(lambda p, q: 1024 * barlow_twins(p, q, backend=backend), one, other)
        for of_view, expected_of_view in zip(actual, expected, strict=True):
            assert of_view.dtype == dtype
            assert_as_exact(of_view / 1024, expected_of_view, gradient)


def test_expanded_projections():
    (row, _), (column, _) = two_views(1, 40), two_views(24, 1)
    z1, z2 = row.expand(24, 40), column.expand(24, 40)
    torch.testing.assert_close(barlow_twins(z1, z2), by_hand(z1, z2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_columns_that_do_not_vary_are_zeros(backend, dtype, shape):
    z1, z2 = two_views(*shape, dtype)
    z1[:, 1] = 0.1
    z2[:, 2] = -1000.1
    z2[:, 3] = z1[:, 3] = 7.7
    assert_as_exact(barlow_twins(z1, z2, backend=backend), by_hand(z1, z2), 1e-6)
    for actual, expected in zip(
        cases.gradients(lambda p, q: barlow_twins(p, q, backend=backend), z1, z2),
        cases.gradients(by_hand, z1.double(), z2.double()),
        strict=True,
    ):
        # What rounding leaves of a zero counts 1 / sqrt(eps) = 316 times.
        atol = 1e-5 if backend == "cpu" or dtype == torch.float64 else 1e-1
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("D", [1, 5, 40])
def test_one_clip_alone_has_the_width_as_loss_and_no_gradient(backend, D):
    z1, z2 = two_views(1, D, torch.float32)
    assert barlow_twins(z1, z2, backend=backend).item() == D
    for grad in cases.gradients(lambda p, q: barlow_twins(p, q, backend=backend), z1, z2):
        assert torch.equal(grad, torch.zeros(1, D))


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_no_columns_have_loss_0(backend):
    z1 = torch.ones(3, 0, requires_grad=True)
    loss = barlow_twins(z1, torch.ones(3, 0), backend=backend)
    loss.backward()
    assert loss.item() == 0 and z1.grad.shape == (3, 0)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("shape", [(64, 2048), (255, 256), (600, 128)])
def test_float32_keeps_its_digits(shape, offset):
    """Columns far from zero, and N just below D, where the Gram form takes a diagonal from a sum hardly larger."""
    z1, z2 = (z + offset for z in two_views(*shape, torch.float32))
    exact, expected = (
        by_hand(z1, z2, lambd=1.0),
        cases.gradients(lambda p, q: by_hand(p, q, 1.0), z1.double(), z2.double()),
    )
    torch.testing.assert_close(barlow_twins(z1, z2, 1.0).double(), exact, rtol=1e-6, atol=0)
    for actual, exact_gradient in zip(
        cases.gradients(lambda p, q: barlow_twins(p, q, 1.0), z1, z2), expected, strict=True
    ):
        assert_as_exact(actual, exact_gradient, 2e-6)


def test_float32_redundancy_next_to_nothing():
    """Whitened columns: the diagonal is nearly all of sum_ij c_ij^2, the worst case of the Gram form."""
    N, D = 127, 128
    whole = torch.linalg.qr(torch.cat([torch.ones(N, 1), torch.randn(N, N - 1)], 1).double())[0]
    z = (whole[:, 1:] * N**0.5).float()
    z = torch.cat([z, z[:, : D - N + 1]], 1)
    torch.testing.assert_close(barlow_twins(z, z, 1.0).double(), by_hand(z, z, 1.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5), (2, 9)])
def test_gradcheck(backend, shape):
    views = [view.requires_grad_() for view in two_views(*shape)]
    assert gradcheck(lambda p, q: barlow_twins(p, q, 0.05, backend=backend), views)


def test_opcheck_and_double_backward():
    for shape in ((6, 9), (9, 6)):
        z1, z2 = (view.requires_grad_() for view in two_views(*shape, torch.float32))
        cases.check_op("barlow_twins", (z1, z2, 2e-4, 1e-5))
        _, statistics, products = torch.ops.asma.barlow_twins(z1.detach(), z2.detach(), 2e-4, 1e-5)
        cases.check_op(
            "barlow_twins_backward", (torch.ones(()), z1.detach(), z2.detach(), statistics, products, 2e-4, 1e-5)
        )
        (grad,) = torch.autograd.grad(barlow_twins(z1, z2), z1, create_graph=True)
        with pytest.raises(RuntimeError, match="barlow_twins: double backward is not implemented"):
            grad.sum().backward()


@pytest.mark.parametrize(("backend", "shape"), [("cpu", (8, 24)), ("cpu", (24, 8)), ("reference", (8, 24))])
def test_compiled(backend, shape):
    loss = BarlowTwinsLoss(0.01)
    with asma_kernels.backend(backend):
        cases.check_compiled(lambda p, q: loss(p * 2, q).sqrt(), two_views(*shape), two_views(*shape))


def test_gradients_of_a_compiled_step():
    views = two_views(8, 24)
    loss = BarlowTwinsLoss(0.01)
    compiled = torch.compile(loss, fullgraph=True)
    for actual, expected in zip(cases.gradients(compiled, *views), cases.gradients(loss, *views), strict=True):
        torch.testing.assert_close(actual, expected)


def test_module_is_the_function():
    z1, z2 = two_views(5, 9)
    loss = BarlowTwinsLoss(lambd=0.25, eps=0.5)
    assert torch.equal(loss(z1, z2), barlow_twins(z1, z2, 0.25, 0.5)) and not list(loss.parameters())
    assert repr(loss) == "BarlowTwinsLoss(lambd=0.25, eps=0.5)"


@pytest.mark.parametrize("shape", [(70, 1500), (1200, 70), (130, 131)])
def test_threads_do_not_change_a_bit(shape):
    z1, z2 = two_views(*shape, torch.float32)
    cases.check_threads(lambda: barlow_twins(z1, z2))
    cases.check_threads(lambda: torch.cat(cases.gradients(barlow_twins, z1, z2)))
    cases.check_concurrent(lambda: torch.cat(cases.gradients(barlow_twins, z1, z2)))


@pytest.mark.parametrize("backend", cases.BACKENDS)
@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_autocast_computes_in_float32(backend, shape):
    z1, z2 = two_views(*shape, torch.bfloat16)
    for dtype in (torch.bfloat16, torch.float32):
        one, other = z1.to(dtype, copy=True).requires_grad_(), z2.to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            loss = barlow_twins(one, other, backend=backend)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss.double(), by_hand(z1, z2), rtol=1e-6, atol=0)
        loss.backward()
        assert one.grad.dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert barlow_twins(z1.double(), z2.double(), backend=backend).dtype == torch.float64


def test_the_large_matrix_is_never_there():
    D = 12000
    z1, z2 = (view.requires_grad_() for view in two_views(2, D, torch.float32))
    with torch.profiler.profile(profile_memory=True) as profile:
        barlow_twins(z1, z2).backward()
    asked = sum(max(event.cpu_memory_usage, 0) for event in profile.events())
    assert 0 < asked < 4 * D * D / 100


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    N=st.integers(3, 40),  # two numbers of a column may be so close that eps tells a stretched column from it
    D=st.integers(1, 70),
    lambd=st.floats(0, 1),
    scale=st.floats(1, 20),
    shift=st.floats(-100, 100),
)
def test_properties(seed, N, D, lambd, scale, shift):
    torch.manual_seed(seed)
    z1, z2 = two_views(N, D)
    for backend in cases.BACKENDS:

        def loss(p, q, backend=backend):
            return barlow_twins(p, q, lambd, eps=1e-14, backend=backend)

        expected = loss(z1, z2)
        assert expected >= 0
        torch.testing.assert_close(loss(z2, z1), expected, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(loss(scale * z1 + shift, z2), expected, rtol=1e-6, atol=1e-6)
        clips, columns = torch.randperm(N), torch.randperm(D)
        torch.testing.assert_close(loss(z1[clips][:, columns], z2[clips][:, columns]), expected, rtol=1e-8, atol=1e-8)
        (grad, _) = cases.gradients(loss, z1, z2)
        # Moving or stretching a column changes nothing, so the gradient has no part along either.
        torch.testing.assert_close(grad.sum(0), torch.zeros(D, dtype=torch.float64), rtol=0, atol=1e-8)
        torch.testing.assert_close((grad * z1).sum(0), torch.zeros(D, dtype=torch.float64), rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_nan_is_not_hidden(shape):
    z1, z2 = two_views(*shape)
    z1[3, 2] = float("nan")
    for backend in cases.BACKENDS:
        assert barlow_twins(z1, z2, backend=backend).isnan()
        assert (
            cases.gradients(lambda p, q, backend=backend: barlow_twins(p, q, backend=backend), z1, z2)[1].isnan().all()
        )


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_other_devices_get_the_same_from_the_reference(shape):
    op = asma_kernels.ops.barlow_twins
    arguments = (*two_views(*shape), 0.1, 1e-5)
    outputs = torch.ops.asma.barlow_twins(*arguments)
    z1, z2, *options = arguments
    rest = (torch.tensor(-3.0, dtype=torch.float64), z1, z2, *outputs[1:], *options)
    for own, others in (
        (outputs, op.reference.parts(*arguments)),
        (torch.ops.asma.barlow_twins_backward(*rest), op._reference_backward(*rest)),
    ):
        for one, other in zip(own, others, strict=True):
            torch.testing.assert_close(one, other)


def test_shapes_without_numbers():
    for shape in ((6, 9), (9, 6)):
        z = torch.empty(shape, dtype=torch.bfloat16, device="meta", requires_grad=True)
        loss = torch.ops.asma.barlow_twins(z, z, 2e-4, 1e-5)[0]
        assert loss.shape == () and loss.dtype == torch.float32
        assert torch.autograd.grad(loss, z)[0].shape == shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z1": torch.zeros(4)}, r"barlow_twins: z1 must be \(N, D\), got shape \(4,\)"),
        ({"z2": torch.zeros(4, 3, 1)}, r"barlow_twins: z2 must be \(N, D\), got shape \(4, 3, 1\)"),
        ({"z1": torch.zeros(4, 3, dtype=torch.int64)}, "barlow_twins: z1 must be float64"),
        ({"z2": torch.zeros(4, 3, dtype=torch.float64)}, "barlow_twins: z2 must be torch.float32, got torch.float64"),
        ({"z2": torch.zeros(4, 3, device="meta")}, "barlow_twins: z2 must be on cpu, got meta"),
        ({"z2": torch.zeros(3, 4)}, r"barlow_twins: z2 must have z1's shape \(4, 3\), got \(3, 4\)"),
        ({"z1": torch.zeros(0, 3), "z2": torch.zeros(0, 3)}, r"barlow_twins: N must be > 0, got shape \(0, 3\)"),
        ({"lambd": -1}, "barlow_twins: lambd must be >= 0, got -1"),
        ({"lambd": float("nan")}, "barlow_twins: lambd must be >= 0, got nan"),
        ({"eps": 0.0}, "barlow_twins: eps must be > 0, got 0.0"),
        ({"backend": "cuda"}, "barlow_twins: backend 'cuda' cannot run this call: its tensors are on cpu"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(change, message):
    arguments = {"z1": torch.zeros(4, 3), "z2": torch.zeros(4, 3)} | change
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        barlow_twins(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.ones(2)}, "grad must be a number of the loss's dtype"),
        ({0: torch.ones((), dtype=torch.float64)}, "grad must be a number of the loss's dtype"),
        ({1: torch.zeros(0, 6), 2: torch.zeros(0, 6)}, "N must be > 0"),
        ({2: torch.zeros(4, 5)}, "z1 and z2 must have one shape"),
        ({2: torch.zeros(4, 6, dtype=torch.float64)}, "z1 and z2 must have one dtype"),
        ({3: torch.zeros(5, 6)}, "statistics must be float64"),
        ({3: torch.zeros(4, 6, dtype=torch.float64)}, r"statistics must be \(5, D\)"),
        ({4: torch.zeros(2, 4, 4, dtype=torch.float64)}, "products must have the loss's dtype"),
        ({4: torch.zeros(1, 4, 4)}, r"products must be \(2, N, N\) with N < D, else \(1, D, D\)"),
    ],
)
def test_the_binding_refuses_what_it_could_not_read(change, message):
    z = torch.zeros(4, 6)
    arguments = [torch.ones(()), z, z, torch.zeros(5, 6, dtype=torch.float64), torch.zeros(2, 4, 4), 2e-4, 1e-5]
    for place, argument in change.items():
        arguments[place] = argument
    with pytest.raises(RuntimeError, match=message):
        torch.ops.asma.barlow_twins_backward(*arguments)
