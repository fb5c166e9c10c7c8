"""Losses that `torch.nn` does not have."""

from __future__ import annotations

from tieralloc._common.torch import torch


def chamfer_distance(
    points: torch.Tensor, targets: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Measure how far sets of points are from sets of targets, in both directions.

    The mean squared distance from each point to the nearest target, and from each target to the
    nearest point. Neither order nor number matters, and it can be differentiated.

    Parameters
    ----------
    points : (batch, n, dim) float
        What was emitted.
    targets : (batch, m, dim) float
        What was to be emitted, padded.
    present : (batch, m) bool
        Which targets are no padding. Sets without any have no distance, and are left out.

    Returns
    -------
    () float
        The mean over the sets that have targets; 0 where none has.
    """
    some = present.any(dim=1)
    points, targets, present = points[some], targets[some], present[some]
    if len(points) == 0:
        return points.sum()
    distances = (points.unsqueeze(2) - targets.unsqueeze(1)).square().sum(dim=3)
    absent = ~present
    of_points = distances.masked_fill(absent.unsqueeze(1), torch.inf).amin(dim=2).mean(dim=1)
    of_targets = distances.amin(dim=1).masked_fill(absent, 0).sum(dim=1) / present.sum(dim=1)
    return (of_points + of_targets).mean()
