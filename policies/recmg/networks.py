"""From trained modules to networks that the core runs: natively, or by torch.

The core evaluates the graph of `HazardModel` itself. A module is such a graph if it has exactly its
parameters and gives the same probabilities as the native network, on examples and on random
features. Any other module is run by torch, one batch at a time, which is slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tieralloc.policies.recmg.model import BOUND

from tieralloc._bindings import Network
from tieralloc._common.torch import on_one_thread, torch
from tieralloc.policy.directory import PolicyDirectory
from tieralloc.policy.scripted import load_module

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The core's name of each parameter of `HazardModel`, and its dimensions.
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
    """Return the native network of a `HazardModel`'s parameters; None for other parameters."""
    if state.keys() != _PARAMETERS.keys():
        return None
    weights: dict[str, Any] = {"bound": BOUND}
    for name, (core_name, dimensions) in _PARAMETERS.items():
        if state[name].dim() != dimensions:
            return None
        weights[core_name] = state[name].detach().numpy()
    try:
        return Network(weights)
    except ValueError:  # the sizes contradict each other
        return None


def load_network(directory: PolicyDirectory, name: str, *, width: int, outputs: int) -> Network:
    """Load a model of a policy directory.

    Parameters
    ----------
    directory : PolicyDirectory
        It is a program: load those only whose maker you trust.
    name : str
        Of the model, and of the array with features that it saw in training.
    width, outputs : int
        Features and probabilities of a row.

    Raises
    ------
    ValueError
        Naming the directory, for a model that cannot be loaded, fails, or does not return finite
        probabilities of that shape.
    """
    try:
        features = _check_examples(directory.arrays.get(name), name, width)
        return _make_network(load_module(directory.models[name], name), name, features, outputs)
    except ValueError as error:
        raise ValueError(f"{directory.path}: {error}") from error


def _check_examples(array: NDArray[Any] | None, name: str, width: int) -> NDArray[np.float32]:
    if array is None or array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != width:
        got = "none" if array is None else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"array {name!r}: expected float32 of shape (n, {width}), got {got}")
    if not len(array) or not np.isfinite(array).all():
        raise ValueError(f"array {name!r}: expected rows of finite numbers")
    return array


def _make_network(
    module: torch.nn.Module, name: str, examples: NDArray[np.float32], outputs: int
) -> Network:
    state = module.state_dict()
    for parameter, values in state.items():
        if not torch.isfinite(values).all():
            raise ValueError(f"model {name!r}: {parameter} holds NaN or infinity")

    @on_one_thread
    def run(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = module(torch.from_numpy(features.copy())).numpy()
        return probabilities

    features = np.concatenate([examples, _random_features(examples)])
    expected = _probabilities(run, name, features, outputs)
    network = native_network(state)
    if network is not None:
        found = network.evaluate(features)
        if found.shape == expected.shape and np.abs(found - expected).max() <= _TOLERANCE:
            return network
    return Network(run, features=features.shape[1], outputs=outputs)


def _random_features(examples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw features within twice the range of some examples."""
    low, high = examples.min(axis=0), examples.max(axis=0)
    spread = (high - low) / 2
    random = np.random.default_rng(0).uniform(
        low - spread, high + spread, (_RANDOM_ROWS, examples.shape[1])
    )
    return random.astype(np.float32)


def _probabilities(
    run: Any, name: str, features: NDArray[np.float32], outputs: int
) -> NDArray[np.float32]:
    """Run a module; raise ValueError if it fails or returns no probabilities."""
    try:
        found: NDArray[np.float32] = run(features)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"model {name!r} fails: {reason}") from error
    expected = (len(features), outputs)
    if found.shape != expected or found.dtype != np.float32:
        raise ValueError(
            f"model {name!r}: expected float32 of shape {expected}, got {found.dtype} of shape"
            f" {found.shape}"
        )
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"model {name!r}: expected probabilities, got {found.min()} and more")
    return found
