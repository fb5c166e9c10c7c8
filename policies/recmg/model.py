"""The caching model: from the features of a row to how likely it is used again, and how soon."""

from __future__ import annotations

from tieralloc._torch import torch

_FARTHEST = 6.0  # standard deviations: what is farther out than anything learned from is cut off
_TABLE_DIM = 8
_WIDTHS = (64, 32)


class HorizonModel(torch.nn.Module):
    """Says how likely a row is used again within each horizon.

    Parameters
    ----------
    num_tables : int
        Tables there are; the first feature is the number of the row's.
    mean, deviation : (F,) float32
        Of the features that are learned from.
    num_horizons : int
        Horizons there are.
    """

    def __init__(
        self, num_tables: int, mean: torch.Tensor, deviation: torch.Tensor, num_horizons: int
    ) -> None:
        super().__init__()
        self.farthest = _FARTHEST  # where TorchScript finds it
        self.last_table = num_tables - 1
        constant = deviation < 1e-4
        scale = torch.where(constant, 0.0, 1 / deviation.masked_fill(constant, 1))
        self.mean = torch.nn.Parameter(mean[1:].clone(), requires_grad=False)
        self.scale = torch.nn.Parameter(scale[1:].clone(), requires_grad=False)
        self.tables = torch.nn.Embedding(num_tables, _TABLE_DIM)
        first, second = _WIDTHS
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(len(mean) - 1 + _TABLE_DIM, first),
            torch.nn.ReLU(),
            torch.nn.Linear(first, second),
            torch.nn.ReLU(),
            torch.nn.Linear(second, num_horizons),
        )

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of a use within each horizon, (n, horizons), for (n, F) features."""
        tables = self.tables(features[:, 0].long().clamp(0, self.last_table))
        standard = ((features[:, 1:] - self.mean) * self.scale).clamp(-self.farthest, self.farthest)
        found: torch.Tensor = self.layers(torch.cat([standard, tables], dim=1))
        return found

    def forward(self, features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return what rows are worth, (n,): the lowest leaves first.

        Parameters
        ----------
        features : (n, F) float32
            As `tieralloc._core.RowHistory` gives them.
        weights : (horizons,) float32
            What a use within each horizon is worth.
        """
        return torch.sigmoid(self.logits(features)) @ weights
