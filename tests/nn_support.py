"""Helpers of the tests of torch modules: rows, calls, and bitwise comparison."""

from dataclasses import dataclass

import hypothesis.strategies as st
import torch

import tieralloc as ta

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
MODES = ("sum", "mean", "max")


def convert(model, store, **options):
    """Convert a model; return it, or the module in its place."""
    return ta.nn.convert(model, store, verbose=False, **options).model


def random_rows(rows, dim, dtype=torch.float32, seed=0):
    """Return random rows with some negative zeros."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, dim, generator=generator)
    weight[torch.rand(rows, dim, generator=generator) < 0.1] = -0.0
    return weight.to(dtype)


def same_bits(one, other):
    """Return whether two tensors are equal bit for bit, in dtype and in shape."""
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
    """Draw calls with one- or two-dimensional input, also empty calls and empty bags."""
    num_bags = draw(st.integers(0, 12)) if bags is None else bags
    integer = st.sampled_from([torch.int32, torch.int64])
    row = st.integers(0, rows - 1)
    # torch itself fails on bags of no rows in two dimensions.
    if draw(st.booleans()):
        length = draw(st.integers(1, 8))
        bag = st.lists(row, min_size=length, max_size=length)
        indices = draw(st.lists(bag, min_size=num_bags, max_size=num_bags))
        input = torch.tensor(indices, dtype=draw(integer)).reshape(num_bags, length)
        offsets = None
    else:
        lengths = draw(st.lists(st.integers(0, 8), min_size=num_bags, max_size=num_bags))
        total = sum(lengths)
        input = torch.tensor(
            draw(st.lists(row, min_size=total, max_size=total)), dtype=draw(integer)
        )
        starts = [sum(lengths[:i]) for i in range(num_bags + include_last_offset)]
        offsets = torch.tensor(starts, dtype=draw(integer))
    weights = None
    if weighted:
        seed = draw(st.integers(0, 1000))
        weights = torch.randn(input.shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return BagCall(input, offsets, weights)
