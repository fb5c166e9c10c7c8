"""Learning the hazards of the next use from samples."""

from __future__ import annotations

from collections.abc import Sequence

from tieralloc.policies.recmg.model import HazardModel
from tieralloc.policies.recmg.samples import Samples

from tieralloc._common.torch import torch


class HazardLearner:
    """Trains a `HazardModel` on the samples before an access, and on nothing after it.

    A sample is at risk in an interval if its row was not used before it, and if the interval ends
    at `end` or before. The loss is the mean cross entropy over the intervals at risk.

    Parameters
    ----------
    samples : Samples
        Those until `end` count.
    intervals : sequence of int
        Upper ends, in accesses, ascending.
    num_tables : int
        Tables.
    end : int
        Access.
    seed : int
        Random seed of the untrained model.
    """

    def __init__(
        self, samples: Samples, intervals: Sequence[int], *, num_tables: int, end: int, seed: int
    ) -> None:
        known = samples.until(end)
        deviation, mean = torch.std_mean(known.features, dim=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = HazardModel(num_tables, mean, deviation, len(intervals))
        ends = torch.tensor(intervals)
        used_in = torch.searchsorted(ends, known.distances)  # one past the last: in none
        num_seen = torch.searchsorted(ends, end - known.times, right=True)
        # One row a sample: memory latency dominates the drawing of a batch.
        self._examples = torch.column_stack([known.features, used_in, num_seen])
        self._numbers = torch.arange(len(intervals), dtype=torch.float32)

    @property
    def num_examples(self) -> int:
        """Samples to learn from."""
        return len(self._examples)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy over the intervals in which some samples are at risk."""
        batch = self._examples.index_select(0, examples)
        features, used_in, num_seen = batch[:, :-2], batch[:, -2:-1], batch[:, -1:]
        at_risk = ((self._numbers <= used_in) & (self._numbers < num_seen)).float()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            self.module.logits(features),
            (self._numbers == used_in).float(),
            weight=at_risk,
            reduction="sum",
        )
        loss: torch.Tensor = losses / at_risk.sum().clamp(min=1)
        return loss

    def measure(self) -> float:
        """Return 0: the number of epochs is fixed."""
        return 0.0
