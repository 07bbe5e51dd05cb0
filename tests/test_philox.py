import cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asma_kernels import philox, rng

int64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_known_answer_of_the_random123_distribution(backend):
    # philox4x32-10, key 0, counter 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8; word 0 is the draw.
    assert philox(torch.tensor([0, 0]), 1, 1, backend=backend).item() == 0x6627E8D5


def test_known_answer_with_every_bit_set():
    # Key and counter all ones: 408f276d 41c83b0e a20bc7c6 6d5451fd. Row and element 2^32 - 1 are too far to draw a
    # whole block up to, so the plain transcription below is checked there, and the op against the transcription.
    assert one_word(2**64 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1) == 0x408F276D


def one_word(seed, element, row, call):
    """Philox4x32-10 on Python's unbounded integers."""
    low = 2**32 - 1
    c = [element, row, call & low, call >> 32]
    k = [seed & low, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & low, (a >> 32) ^ c[3] ^ k[1], a & low]
        k = [(k[0] + 0x9E3779B9) & low, (k[1] + 0xBB67AE85) & low]
    return c[0]


@settings(max_examples=60, deadline=None)
@given(seed=int64, call=int64, rows=st.integers(0, 5), columns=st.integers(0, 7))
def test_words_of_any_seed_and_call(seed, call, rows, columns):
    expected = [[one_word(seed % 2**64, i, n, call % 2**64) for i in range(columns)] for n in range(rows)]
    for backend in cases.BACKENDS:
        words = philox(torch.tensor([seed, call]), rows, columns, backend=backend)
        assert words.shape == (rows, columns)
        assert words.tolist() == expected


def test_words_depend_on_their_place_only():
    state = torch.tensor([3, 4])
    whole = philox(state, 200, 300)
    assert torch.equal(whole[:7, :11], philox(state, 7, 11))
    cases.check_threads(lambda: philox(state, 200, 300))


def test_words_are_uniform_and_calls_differ():
    words = philox(torch.tensor([1, 0]), 100, 1000).double() / 2**32
    assert abs(words.mean() - 0.5) < 0.005
    assert abs(words.var() - 1 / 12) < 0.002
    assert not torch.equal(philox(torch.tensor([1, 0]), 4, 4), philox(torch.tensor([1, 1]), 4, 4))


def test_opcheck_and_compiled():
    state = torch.tensor([5, 6])
    cases.check_op("philox", (state, 3, 4))
    for backend in cases.BACKENDS:
        cases.check_compiled(lambda s, b=backend: philox(s, 3, 4, backend=b) + 1, (state,), (state + 1,))


def test_draws_give_every_call_its_own_number_and_resume():
    draws = rng.Draws(seed=7)
    assert [draws.next().tolist() for _ in range(3)] == [[7, 0], [7, 1], [7, 2]]
    again = rng.Draws(seed=0)
    again.state.copy_(draws.state)
    assert again.next().tolist() == draws.next().tolist() == [7, 3]


def test_seed_from_a_generator_is_repeatable():
    first, second = (rng.seed_tensor(torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, rng.seed_tensor(torch.Generator().manual_seed(2)))


@pytest.mark.parametrize(
    ("state", "rows", "message"),
    [
        (torch.tensor([0, 0, 0]), 1, r"philox: rng must be \[seed, call\], got shape \(3,\)"),
        (torch.tensor([0.0, 0.0]), 1, "philox: rng must be torch.int64"),
        (torch.tensor([0, 0]), -1, "philox: rows and columns must be in"),
    ],
)
def test_wrong_arguments(state, rows, message):
    with pytest.raises((ValueError, TypeError), match=message):
        philox(state, rows, 1)
    with pytest.raises(ValueError, match="seed_tensor: seed must fit int64"):
        rng.seed_tensor(2**63)
