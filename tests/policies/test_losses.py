"""Losses against their definitions, and their gradients against finite differences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tieralloc.policies.losses import chamfer_distance  # noqa: E402


def by_definition(points, targets):
    def nearest(one, others):
        return min(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for other in others)

    there = sum(nearest(point, targets) for point in points) / len(points)
    back = sum(nearest(target, points) for target in targets) / len(targets)
    return there + back


@st.composite
def sets_of_points(draw):
    batch, dim, n = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 5))
    number = st.floats(-1, 1, width=32)
    point = st.lists(number, min_size=dim, max_size=dim)
    points = [draw(st.lists(point, min_size=n, max_size=n)) for _ in range(batch)]
    targets = [draw(st.lists(point, max_size=6)) for _ in range(batch)]
    return points, targets


def padded(targets, dim):
    """Return padded targets and their mask; the padding is not 0, so that its use shows."""
    present = torch.zeros(len(targets), 6, dtype=torch.bool)
    values = torch.full((len(targets), 6, dim), 0.123, dtype=torch.float64)
    for number, members in enumerate(targets):
        present[number, : len(members)] = True
        for place, target in enumerate(members):
            values[number, place] = torch.tensor(target)
    return values, present


@given(sets_of_points())
def test_chamfer_distance_matches_its_definition(drawn):
    points, targets = drawn
    values, present = padded(targets, len(points[0][0]))
    distance = chamfer_distance(torch.tensor(points, dtype=torch.float64), values, present)
    pairs = [pair for pair in zip(points, targets, strict=True) if pair[1]]
    expected = sum(by_definition(*pair) for pair in pairs) / len(pairs) if pairs else 0
    assert float(distance) == pytest.approx(expected, abs=1e-12)


def test_chamfer_distance_gradient_is_complete():
    torch.manual_seed(0)
    points = torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)
    targets = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    present = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.bool)

    def loss(points, targets):
        return chamfer_distance(points, targets, present)

    assert torch.autograd.gradcheck(loss, (points, targets))
    loss(points, targets).backward()
    # Each point has a gradient, except in sets without targets; padding has none.
    assert (points.grad[:2] != 0).all()
    assert (points.grad[2] == 0).all()
    assert ((targets.grad != 0).all(dim=2) == present).all()


def test_chamfer_distance_sets_without_targets_are_ignored():
    points = torch.rand(2, 5, 1, requires_grad=True)
    loss = chamfer_distance(points, torch.rand(2, 3, 1), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert (points.grad == 0).all()


def test_chamfer_distance_descent_reaches_targets():
    torch.manual_seed(1)
    points = torch.rand(1, 3, 1, requires_grad=True)
    targets = torch.tensor([[[0.1], [0.5], [0.9]]])
    optimizer = torch.optim.Adam([points], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        chamfer_distance(points, targets, torch.ones(1, 3, dtype=torch.bool)).backward()
        optimizer.step()
    assert torch.allclose(points.detach().sort(dim=1).values, targets, atol=0.02)
