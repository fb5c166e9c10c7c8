"""The network of both models of `recmg`: from the features of a row to hazards of its next use."""

from __future__ import annotations

from tieralloc._common.torch import torch

#: Features are clamped to this number of standard deviations around their mean.
BOUND = 6.0

_TABLE_DIM = 8
_WIDTHS = (32, 16)
_MIN_DEVIATION = 1e-4  # a feature that varies less is ignored


class HazardModel(torch.nn.Module):
    """Predicts the probability of a use within each interval of time, given none before.

    The graph is that of ``_core/policy/network.hpp``, which evaluates it natively. The first
    feature is the number of the row's table; `mean` and `deviation`, (F,), are of the training
    features.
    """

    def __init__(
        self, num_tables: int, mean: torch.Tensor, deviation: torch.Tensor, num_intervals: int
    ) -> None:
        super().__init__()
        self.bound = BOUND  # attributes: TorchScript reads no module constants
        self.last_table = num_tables - 1
        is_constant = deviation < _MIN_DEVIATION
        scale = torch.where(is_constant, 0.0, 1 / deviation.masked_fill(is_constant, 1))
        self.mean = torch.nn.Parameter(mean[1:].clone(), requires_grad=False)
        self.scale = torch.nn.Parameter(scale[1:].clone(), requires_grad=False)
        self.tables = torch.nn.Embedding(num_tables, _TABLE_DIM)
        first, second = _WIDTHS
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(len(mean) - 1 + _TABLE_DIM, first),
            torch.nn.ReLU(),
            torch.nn.Linear(first, second),
            torch.nn.ReLU(),
            torch.nn.Linear(second, num_intervals),
        )

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of a use within each interval, (n, intervals), for (n, F)."""
        tables = self.tables(features[:, 0].long().clamp(0, self.last_table))
        standard = ((features[:, 1:] - self.mean) * self.scale).clamp(-self.bound, self.bound)
        logits: torch.Tensor = self.layers(torch.cat([standard, tables], dim=1))
        return logits

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the probability of a use in each interval, (n, intervals), for (n, F) float32."""
        return torch.sigmoid(self.logits(features))
