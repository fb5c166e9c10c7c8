"""The training loop on a small problem: reproducible, resumable, with early stopping."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from tieralloc.policies.training import Settings, epoch_size, train  # noqa: E402

SETTINGS = Settings(epochs=6, batch_size=16, learning_rate=0.05, seed=1)


class Line:
    """Learns y = 2x - 1 with a module that has dropout."""

    def __init__(self, measures=None):
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(
            torch.nn.Linear(1, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)
        )
        self.x = torch.linspace(-1, 1, 100)[:, None]
        self.measures = iter(measures) if measures is not None else None
        self.seen = []
        self.states = []

    @property
    def num_examples(self):
        return len(self.x)

    def loss(self, examples):
        assert self.module.training
        self.seen.append(examples)
        x = self.x[examples]
        return ((self.module(x) - (2 * x - 1)) ** 2).mean()

    def measure(self):
        assert not self.module.training
        assert torch.is_inference_mode_enabled()
        self.states.append(state_of(self))
        if self.measures is not None:
            return next(self.measures)
        return float(((self.module(self.x) - (2 * self.x - 1)) ** 2).mean())


def state_of(task):
    return [parameter.detach().clone() for parameter in task.module.parameters()]


def same(states, others):
    return all(torch.equal(a, b) for a, b in zip(states, others, strict=True))


def test_train_reduces_loss_and_metric():
    epochs = train(Line(), SETTINGS)
    assert epochs[-1].measure < epochs[0].measure / 4
    assert epochs[-1].loss < epochs[0].loss / 4


def test_epoch_holds_each_example_once_in_random_order():
    task = Line()
    train(task, SETTINGS)
    per_epoch = len(task.seen) // SETTINGS.epochs
    orders = [
        torch.cat(task.seen[at : at + per_epoch]).tolist()
        for at in range(0, len(task.seen), per_epoch)
    ]
    assert len({tuple(order) for order in orders}) == SETTINGS.epochs
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_short_epochs_draw_different_examples():
    task = Line()
    settings = replace(SETTINGS, epoch_examples=10)
    assert epoch_size(task, settings) == 10
    train(task, settings)
    assert [len(batch) for batch in task.seen] == [10] * SETTINGS.epochs
    assert len({row for batch in task.seen for row in batch.tolist()}) > 30


def test_train_depends_on_seed_and_restores_generator():
    first, again, other = Line(), Line(), Line()
    torch.manual_seed(7)
    train(first, SETTINGS)
    after_training = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after_training, torch.rand(3))
    train(again, SETTINGS)
    train(other, replace(SETTINGS, seed=2))
    assert same(state_of(first), state_of(again))
    assert not same(state_of(first), state_of(other))


@pytest.mark.parametrize("steps", [0, 1, 7, 8, 20, 41])
def test_resumed_run_equals_uninterrupted_run(tmp_path, steps):
    whole = Line()
    epochs = train(whole, SETTINGS)
    path = tmp_path / "training" / "line.pt"
    done = 0

    def interrupt(examples, state):
        nonlocal done
        if done == steps:
            raise KeyboardInterrupt
        done += 1

    with pytest.raises(KeyboardInterrupt):
        train(Line(), SETTINGS, checkpoint=path, identity="line", report=interrupt)
    resumed = Line()
    examples = []
    resumed_epochs = train(
        resumed,
        SETTINGS,
        checkpoint=path,
        identity="line",
        report=lambda done, state: examples.append(done),
    )
    assert resumed_epochs == epochs
    assert same(state_of(resumed), state_of(whole))
    assert sum(examples) == 100 * SETTINGS.epochs
    steps_per_epoch = 7
    assert len(resumed.seen) == steps_per_epoch * (SETTINGS.epochs - steps // steps_per_epoch)


def test_finished_run_is_loaded_from_its_checkpoint(tmp_path):
    first, again = Line(), Line()
    train(first, SETTINGS, checkpoint=tmp_path / "line.pt")
    train(again, SETTINGS, checkpoint=tmp_path / "line.pt")
    assert again.seen == []
    assert same(state_of(first), state_of(again))


@pytest.mark.parametrize("change", [{"identity": "curve"}, {"settings": replace(SETTINGS, seed=5)}])
def test_checkpoint_of_another_identity_is_ignored(tmp_path, change):
    path = tmp_path / "line.pt"
    train(Line(), SETTINGS, checkpoint=path, identity="line")
    task = Line()
    arguments = {"settings": SETTINGS, "identity": "line", **change}
    train(task, checkpoint=path, **arguments)
    assert len(task.seen) == 7 * SETTINGS.epochs


def test_train_stops_early_and_keeps_best_weights():
    task = Line(measures=[5, 4, 4.5, 3, 3, 3.5, 9, 1])
    epochs = train(task, replace(SETTINGS, epochs=8, patience=3))
    assert [epoch.measure for epoch in epochs] == [5, 4, 4.5, 3, 3, 3.5, 9]
    assert same(state_of(task), task.states[3])


def test_one_cycle_rate_rises_then_falls_and_resumes(tmp_path):
    settings = replace(SETTINGS, one_cycle=True)
    rates = [settings.rate_at(progress / 100) for progress in range(101)]
    assert max(rates) == rates[10] == settings.learning_rate
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert 0 <= rates[100] < 1e-9 < rates[0]
    whole, done = Line(), 0
    train(whole, settings)

    def interrupt(examples, state):
        nonlocal done
        done += 1
        if done == 20:
            raise KeyboardInterrupt

    path, resumed = tmp_path / "line.pt", Line()
    with pytest.raises(KeyboardInterrupt):
        train(Line(), settings, checkpoint=path, report=interrupt)
    train(resumed, settings, checkpoint=path)
    assert same(state_of(resumed), state_of(whole))


def test_unmeasured_train_runs_all_epochs_and_keeps_last():
    task = Line(measures=[])  # measuring would raise
    states = []
    epochs = train(
        task, replace(SETTINGS, measured=False), report=lambda _, state: states.append(state)
    )
    assert [epoch.measure for epoch in epochs] == [0.0] * SETTINGS.epochs
    assert "validation" not in states[-1]
    other = Line()
    train(other, replace(SETTINGS, patience=99))
    assert len(other.states) == SETTINGS.epochs
    assert same(state_of(task), other.states[-1])


def test_report_states_loss_and_metric():
    states = []
    train(
        Line([0.5, 0.25]), replace(SETTINGS, epochs=2), report=lambda _, state: states.append(state)
    )
    assert "validation" not in states[0]
    assert states[0].startswith("epoch 1 of 2, loss ")
    assert states[-1].endswith("validation 0.5000, best 0.5000")


def test_train_loss_not_finite_raises():
    task = Line()
    task.x[3] = float("nan")
    with pytest.raises(ValueError, match="loss: expected a finite number, got nan"):
        train(task, SETTINGS)


def test_train_without_examples_raises():
    task = Line()
    task.x = task.x[:0]
    with pytest.raises(ValueError, match="num_examples: expected at least 1 training example"):
        train(task, SETTINGS)
