"""Learning whether rows are used again within each of some horizons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tieralloc._torch import torch
from tieralloc.policies.recmg.model import HorizonModel
from tieralloc.policies.recmg.samples import Samples


class HorizonLearner:
    """Learns from what was drawn before an access, and knows of nothing that came after it.

    Parameters
    ----------
    samples : Samples
        Of which those until `end` count.
    horizons : sequence of int
        Accesses, ascending.
    num_tables : int
        Tables there are.
    end : int
        Access.
    seed : int
        Of the untrained model.
    measure : callable, optional
        Measures the model on what it does not learn from; less is better.
    """

    def __init__(
        self,
        samples: Samples,
        horizons: Sequence[int],
        *,
        num_tables: int,
        end: int,
        seed: int,
        measure: Callable[[torch.nn.Module], float] | None = None,
    ) -> None:
        known = samples.until(end)
        limits = torch.tensor(horizons)
        self._features = known.features
        self._used = known.distances[:, None] <= limits
        self._known = known.times[:, None] + limits <= end
        self._measure = measure
        deviation, mean = torch.std_mean(self._features, dim=0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.module = HorizonModel(num_tables, mean, deviation, len(horizons))

    @property
    def num_examples(self) -> int:
        """Samples to learn from."""
        return len(self._features)

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of whether rows are used within the horizons known of."""
        logits = self.module.logits(self._features[examples])
        known = self._known[examples].float()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, self._used[examples].float(), weight=known, reduction="sum"
        )
        return losses / known.sum().clamp(min=1)

    def measure(self) -> float:
        """Measure the model; 0 where nobody said how."""
        return 0.0 if self._measure is None else self._measure(self.module)
