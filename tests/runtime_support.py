"""Small policies that stores can run, real ones: compiled models on features counted in NumPy."""

import numpy as np
import torch

from tieralloc._scripted import compile_module, load_module
from tieralloc.policy_directory import Capacity, FeatureSpec, Manifest, TrainingTrace, write_policy
from tieralloc.runtime import ScriptedBrain

FEATURES = FeatureSpec("recency-and-count", version=1, width=2)


class Counting:
    """Of each row: accesses since its last one, and how many it had."""

    def __init__(self, rows):
        self._last = np.zeros(rows, dtype=np.int64)
        self._count = np.zeros(rows, dtype=np.int64)
        self._now = 0

    def observe(self, rows):
        np.maximum.at(self._last, rows, self._now + 1 + np.arange(len(rows)))
        np.add.at(self._count, rows, 1)
        self._now += len(rows)

    def features(self, rows):
        both = np.stack([self._now - self._last[rows], self._count[rows]], axis=1)
        return both.astype(np.float32)


class Weighted(torch.nn.Module):
    """Scores by age and count."""

    def __init__(self, age: float, count: float):
        super().__init__()
        self.register_buffer("weights", torch.tensor([age, count]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weights


class Broken(torch.nn.Module):
    """Well for some calls, and then not."""

    def __init__(self, how: str, after: int = 3):
        super().__init__()
        self.how = how
        self.after = after
        self.calls = 0

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        scores = -features[:, 0]
        if self.calls > self.after:
            if self.how == "raises":
                raise ValueError("a model's own mistake")
            if self.how == "nan":
                scores[0] = float("nan")
            if self.how == "shape":
                return features
            if self.how == "integers":
                return scores.long()
        return scores


def brain_of(module, rows):
    """Compile a module and let it decide on rows 0 to rows - 1."""
    return ScriptedBrain(Counting(rows), load_module(compile_module(module), "scores"))


def least_recent(rows):
    return brain_of(Weighted(-1.0, 0.0), rows)


def most_recent(rows):
    """The worst there is for most traces: the row just used goes."""
    return brain_of(Weighted(1.0, 0.0), rows)


def least_frequent(rows):
    return brain_of(Weighted(-1e-6, 1.0), rows)


def write_counting_policy(path, tables, *, policy="counting", **settings):
    """Write the directory of a policy that `make_brain` makes of it."""
    write_policy(
        path,
        Manifest(
            policy=policy,
            features=FEATURES,
            tables=tables,
            trace=TrainingTrace("none", "", 0),
            capacities=[Capacity(0.1, 10)],
            seed=0,
            settings=settings,
        ),
        {"scores": compile_module(Weighted(-1e-6, 1.0))},
        {},
    )


def make_brain(directory, fast_rows, most_bytes):
    """What tieralloc.policies.registry calls for policy "counting"."""
    directory.check_fits("counting", FEATURES)
    rows = sum(rows for _, rows in directory.manifest.tables)
    return ScriptedBrain(Counting(rows), load_module(directory.models["scores"], "scores"))
