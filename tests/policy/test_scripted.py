"""Models as bytes: a loaded model computes the same as its module."""

import warnings

import pytest

torch = pytest.importorskip("torch")

from tieralloc.policy.scripted import compile_module, load_module  # noqa: E402


class Branching(torch.nn.Module):
    """A module with control flow and a buffer, which tracing would lose."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.dropout = torch.nn.Dropout(0.5)
        self.register_buffer("mean", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        result = self.dropout(self.linear(values - self.mean))
        if bool(result.sum() > 0):
            return result
        return -result


def test_load_module_computes_same_as_module():
    module = Branching()
    loaded = load_module(compile_module(module), "branching")
    assert module.training  # unchanged
    module.eval()
    with torch.inference_mode():
        for _ in range(20):
            values = torch.randn(5, 3) * 3
            assert torch.equal(loaded(values), module(values))


def test_compile_and_load_module_raise_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_module(compile_module(Branching()), "branching")


def test_load_module_invalid_bytes_raises():
    with pytest.raises(ValueError, match="model 'caching': torch cannot load it"):
        load_module(b"invalid", "caching")
