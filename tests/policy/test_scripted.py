"""Models as bytes: compiled, loaded, the same."""

import warnings

import pytest

torch = pytest.importorskip("torch")

from tieralloc.policy.scripted import compile_module, load_module  # noqa: E402


class Branching(torch.nn.Module):
    """What tracing would not keep: control flow, and state that is no parameter."""

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


def test_a_loaded_model_computes_what_the_module_does():
    module = Branching()
    loaded = load_module(compile_module(module), "branching")
    assert module.training  # as it was
    module.eval()
    with torch.inference_mode():
        for _ in range(20):
            values = torch.randn(5, 3) * 3
            assert torch.equal(loaded(values), module(values))


def test_nothing_is_said_of_what_is_deprecated():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_module(compile_module(Branching()), "branching")


def test_noise_is_no_model():
    with pytest.raises(ValueError, match="model 'caching' cannot be loaded by torch"):
        load_module(b"noise", "caching")
