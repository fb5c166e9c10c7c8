"""Loss functions that `torch.nn` lacks."""

from __future__ import annotations

from tieralloc._common.torch import torch


def chamfer_distance(
    points: torch.Tensor, targets: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return the Chamfer distance between sets of points and sets of targets.

    It is the mean squared distance from each point to the nearest target, plus that from each
    target to the nearest point. It is differentiable, and independent of the order in a set.
    `points` is (batch, n, dim), `targets` (batch, m, dim), `present` (batch, m) bool and False for
    padding. The result is the mean over the sets with targets; 0 if there are none.
    """
    has_targets = present.any(dim=1)
    points, targets, present = points[has_targets], targets[has_targets], present[has_targets]
    if len(points) == 0:
        return points.sum()
    distances = (points.unsqueeze(2) - targets.unsqueeze(1)).square().sum(dim=3)
    padding = ~present
    to_targets = distances.masked_fill(padding.unsqueeze(1), torch.inf).amin(dim=2).mean(dim=1)
    to_points = distances.amin(dim=1).masked_fill(padding, 0).sum(dim=1) / present.sum(dim=1)
    return (to_targets + to_points).mean()
