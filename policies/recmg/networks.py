"""Loads modules as networks of the core: native, or run by torch.

The core evaluates the graph of `HazardModel` natively. A module counts as that graph if it has
exactly the same parameters, and the same outputs as the native network on training examples and on
random features. torch runs any other module, one batch at a time, which is slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.recmg.model import BOUND

from tieralloc._bindings import Network
from tieralloc._common.files import is_decoding_error
from tieralloc._common.torch import on_one_thread, torch
from tieralloc.policy.directory import PolicyDirectory
from tieralloc.policy.scripted import load_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: By parameter of `HazardModel`: its name in the core, its number of dimensions.
_PARAMETERS = {
    "mean": ("mean", 1),
    "scale": ("scale", 1),
    "tables.weight": ("embedding", 2),
    "layers.0.weight": ("w1", 2),
    "layers.0.bias": ("b1", 1),
    "layers.2.weight": ("w2", 2),
    "layers.2.bias": ("b2", 1),
    "layers.4.weight": ("w3", 2),
    "layers.4.bias": ("b3", 1),
}
_TOLERANCE = 1e-3
_RANDOM_ROWS = 256


def native_network(state: Mapping[str, torch.Tensor]) -> Network | None:
    """Return the native network of a `HazardModel`'s parameters, or None for other parameters."""
    if state.keys() != _PARAMETERS.keys():
        return None
    weights: dict[str, Any] = {"bound": BOUND}
    for name, (core_name, dimensions) in _PARAMETERS.items():
        if state[name].dim() != dimensions:
            return None
        weights[core_name] = state[name].detach().numpy()
    try:
        return Network(weights)
    except ValueError:  # contradictory sizes
        return None


def load_network(directory: PolicyDirectory, name: str, *, width: int, outputs: int) -> Network:
    """Return the network of a model of a policy directory.

    `name` is also that of the array with some of its training features; `width` and `outputs` are
    features and probabilities per row. Loading runs code of the directory: load only policies that
    you trust. ValueError names the directory, if the model cannot be loaded, fails, or does not
    return finite probabilities of the expected shape.
    """
    try:
        features = _check_examples(directory.arrays.get(name), name, width)
        return _make_network(load_module(directory.models[name], name), name, features, outputs)
    except Exception as error:
        if not is_decoding_error(error):
            raise
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{directory.path}: {reason}") from error


def _check_examples(array: NDArray[Any] | None, name: str, width: int) -> NDArray[np.float32]:
    if array is None or array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != width:
        got = "no array" if array is None else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"array {name!r}: expected float32 of shape (n, {width}), got {got}")
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(
            f"array {name!r}: expected one or more rows of finite numbers, got {len(array)} rows"
        )
    return array


def _make_network(
    module: torch.nn.Module, name: str, examples: NDArray[np.float32], outputs: int
) -> Network:
    state = module.state_dict()
    for parameter, values in state.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"model {name!r}: {parameter} must be finite, got NaN or inf")

    @on_one_thread
    def run(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = module(torch.from_numpy(features.copy())).numpy()
        return probabilities

    features = np.concatenate([examples, _random_features(examples)])
    expected = _probabilities(run, name, features, outputs)
    network = native_network(state)
    if network is not None:
        actual = network.evaluate(features)
        if actual.shape == expected.shape and np.abs(actual - expected).max() <= _TOLERANCE:
            return network
    return Network(run, features=features.shape[1], outputs=outputs)


def _random_features(examples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return random features, within twice the range of the examples."""
    low, high = examples.min(axis=0), examples.max(axis=0)
    spread = (high - low) / 2
    random = np.random.default_rng(0).uniform(
        low - spread, high + spread, (_RANDOM_ROWS, examples.shape[1])
    )
    return random.astype(np.float32)


def _probabilities(
    run: Any, name: str, features: NDArray[np.float32], outputs: int
) -> NDArray[np.float32]:
    """Return the outputs of a module; raise ValueError if it fails or they are no probabilities."""
    try:
        probabilities: NDArray[np.float32] = run(features)
    except Exception as error:  # the module's code may raise any
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ValueError(f"model {name!r}: forward failed: {reason}") from error
    expected = (len(features), outputs)
    if probabilities.shape != expected or probabilities.dtype != np.float32:
        raise ValueError(
            f"model {name!r}: expected float32 of shape {expected}, got {probabilities.dtype} of"
            f" shape {probabilities.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(
            f"model {name!r}: expected probabilities from 0 to 1, got {probabilities.min()} to"
            f" {probabilities.max()}"
        )
    return probabilities
