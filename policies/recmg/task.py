"""The training task of `recmg`: hazards of the next use, from samples."""

from __future__ import annotations

from collections.abc import Sequence

from tieralloc.policies.recmg.model import HazardModel
from tieralloc.policies.recmg.samples import Samples

from tieralloc._common.torch import torch


class HazardTask:
    """Trains a `HazardModel` on the samples before access `end`, and uses nothing after it.

    A sample is at risk in an interval if its row was not used before the interval, and the interval
    ends at `end` or before. The loss is the mean cross entropy over the intervals at risk.
    `intervals` are their upper ends, in accesses, ascending.
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
        # The interval of the next use; len(intervals) if it is in none.
        use_interval = torch.searchsorted(ends, known.distances)
        num_observed = torch.searchsorted(ends, end - known.times, right=True)
        # One row per sample: memory latency dominates the drawing of a batch.
        self._examples = torch.column_stack([known.features, use_interval, num_observed])
        self._interval_numbers = torch.arange(len(intervals), dtype=torch.float32)

    @property
    def num_examples(self) -> int:
        """Number of training samples."""
        return len(self._examples)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy over the intervals in which the samples are at risk."""
        batch = self._examples.index_select(0, examples)
        features, use_interval, num_observed = batch[:, :-2], batch[:, -2:-1], batch[:, -1:]
        numbers = self._interval_numbers
        at_risk = ((numbers <= use_interval) & (numbers < num_observed)).float()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            self.module.logits(features),
            (numbers == use_interval).float(),
            weight=at_risk,
            reduction="sum",
        )
        loss: torch.Tensor = losses / at_risk.sum().clamp(min=1)
        return loss

    def measure(self) -> float:
        """Return 0: the number of epochs is fixed."""
        return 0.0
