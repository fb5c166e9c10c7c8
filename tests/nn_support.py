"""Common parts of the tests of torch modules: rows, calls, and comparison bit for bit."""

from dataclasses import dataclass

import hypothesis.strategies as st
import torch

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MODES = ("sum", "mean", "max")


def random_rows(rows, dim, dtype=torch.float32, seed=0):
    """Return random rows with some negative zeros."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, dim, generator=generator)
    weight[torch.rand(rows, dim, generator=generator) < 0.1] = -0.0
    return weight.to(dtype)


def same_bits(one, other):
    return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(
        one.detach().contiguous().view(torch.uint8), other.detach().contiguous().view(torch.uint8)
    )


@dataclass
class BagCall:
    """Arguments of EmbeddingBag.forward."""

    input: torch.Tensor
    offsets: torch.Tensor | None
    weights: torch.Tensor | None

    def __iter__(self):
        return iter((self.input, self.offsets, self.weights))


@st.composite
def bag_calls(draw, rows, dtype, *, weighted=False, include_last_offset=False, bags=None):
    """Draw calls of one or two dimensions, also empty ones and ones with empty bags."""
    number = draw(st.integers(0, 12)) if bags is None else bags
    integer = st.sampled_from([torch.int32, torch.int64])
    row = st.integers(0, rows - 1)
    # torch itself fails on bags of no rows in two dimensions.
    if draw(st.booleans()):
        length = draw(st.integers(1, 8))
        lines = draw(
            st.lists(
                st.lists(row, min_size=length, max_size=length), min_size=number, max_size=number
            )
        )
        input = torch.tensor(lines, dtype=draw(integer)).reshape(number, length)
        offsets = None
    else:
        lengths = draw(st.lists(st.integers(0, 8), min_size=number, max_size=number))
        total = sum(lengths)
        input = torch.tensor(
            draw(st.lists(row, min_size=total, max_size=total)), dtype=draw(integer)
        )
        ends = [sum(lengths[:i]) for i in range(number + include_last_offset)]
        offsets = torch.tensor(ends, dtype=draw(integer))
    weights = None
    if weighted:
        seed = draw(st.integers(0, 1000))
        weights = torch.randn(input.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return BagCall(input, offsets, weights)
