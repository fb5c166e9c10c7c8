"""The training loop: seeded, resumable, with early stopping by a validation metric.

Each epoch trains on the examples in random order, computes the metric and writes a checkpoint. A
resumed run ends with the weights of an uninterrupted one, bit for bit, given the same torch and
number of threads.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tieralloc._common.files import replacing
from tieralloc._common.progress import Report, ignore
from tieralloc._common.torch import torch

_WARMUP = 0.1  # share of all epochs in which the rate of a one-cycle schedule rises
_INITIAL_RATE = 0.04  # share of the max rate


class TrainingTask(Protocol):
    """A module, its training examples, its loss and its validation metric."""

    @property
    def module(self) -> torch.nn.Module:
        """The module to train."""

    @property
    def num_examples(self) -> int:
        """Number of training examples; they are numbered from 0."""

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over the examples of these numbers, (n,) int64, as a scalar."""

    def measure(self) -> float:
        """Return the metric of the module on validation data; lower is better.

        The loop calls it with the module in evaluation mode, and without gradients.
        """


@dataclass(frozen=True)
class Settings:
    """Settings of the training loop."""

    epochs: int = 20  # max number of epochs
    patience: int = 3  # training ends after this number of epochs without a better metric
    batch_size: int = 256  # examples per step
    #: Examples per epoch, drawn at random for each epoch; None: all examples.
    epoch_examples: int | None = None
    learning_rate: float = 2e-3  # learning rate of Adam
    max_gradient_norm: float | None = 1.0  # gradients are clipped to this norm; None: no clipping
    #: Whether the learning rate rises to `learning_rate` in the first tenth of all epochs and falls
    #: to 0 at the end of the last.
    one_cycle: bool = False
    #: Whether to compute the metric. If not, all epochs run and the last weights are kept.
    measured: bool = True
    seed: int = 0  # random seed of the order of examples and of random layers, such as dropout

    def rate_at(self, progress: float) -> float:
        """Return the learning rate at a progress from 0 to 1 through all epochs."""
        if not self.one_cycle:
            return self.learning_rate
        if progress < _WARMUP:
            return self.learning_rate * (_INITIAL_RATE + (1 - _INITIAL_RATE) * progress / _WARMUP)
        decay = (progress - _WARMUP) / (1 - _WARMUP)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * decay))


@dataclass(frozen=True)
class Epoch:
    """The mean loss and the metric of an epoch; the metric is 0 if it is not computed."""

    loss: float
    measure: float


def epoch_size(task: TrainingTask, settings: Settings) -> int:
    """Return the number of examples per epoch."""
    if settings.epoch_examples is None:
        return task.num_examples
    return min(settings.epoch_examples, task.num_examples)


def train(
    task: TrainingTask,
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    identity: str = "",
    report: Report = ignore,
) -> list[Epoch]:
    """Train a module until its metric stops improving; load the weights of the best epoch.

    Parameters
    ----------
    task : TrainingTask
        The caller initialises its module.
    settings : Settings
        Settings of the training.
    checkpoint : path, optional
        File of the checkpoint. An interrupted run resumes from it; a finished run loads its result
        from it.
    identity : str
        Name of the task and its data. A checkpoint of another identity, or of other settings, is
        ignored and replaced.
    report : callable
        Called after each step with the number of its examples and the state of the training, and
        once for the epochs of the checkpoint.

    Returns
    -------
    list of Epoch
        All epochs, including those of the checkpoint.

    Raises
    ------
    ValueError
        If there are no examples, or the loss is not finite.
    """
    if task.num_examples < 1:
        raise ValueError("num_examples: expected at least 1 training example, got 0")
    optimizer = torch.optim.Adam(task.module.parameters(), lr=settings.learning_rate, fused=True)
    run = _Run(task.module, optimizer, f"{identity}; {asdict(settings)}", settings.measured)
    if checkpoint is not None and run.resume(checkpoint):
        report(epoch_size(task, settings) * len(run.epochs), run.state)
    while not run.is_over(settings):
        with _seeded(settings.seed, len(run.epochs)):
            loss = _train_epoch(task, optimizer, settings, run, report)
        run.add_epoch(loss, _measure(task) if settings.measured else 0.0)
        if checkpoint is not None:
            run.save(checkpoint)
    task.module.load_state_dict(run.best)
    return run.epochs


class _Run:
    """The state of a training run between two epochs."""

    def __init__(
        self,
        module: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        identity: str,
        measured: bool,
    ) -> None:
        self.epochs: list[Epoch] = []
        self.best: dict[str, Any] = {}
        self._module = module
        self._optimizer = optimizer
        self._identity = identity
        self._measured = measured

    @property
    def state(self) -> str:
        if not self.epochs or not self._measured:
            return ""
        best = min(epoch.measure for epoch in self.epochs)
        return f"validation {self.epochs[-1].measure:.4f}, best {best:.4f}"

    def is_over(self, settings: Settings) -> bool:
        measures = [epoch.measure for epoch in self.epochs]
        if not measures or not self._measured:
            return len(measures) >= settings.epochs
        epochs_since_best = len(measures) - 1 - measures.index(min(measures))
        return len(measures) >= settings.epochs or epochs_since_best >= settings.patience

    def add_epoch(self, loss: float, measure: float) -> None:
        if not self._measured or all(measure < epoch.measure for epoch in self.epochs):
            state = self._module.state_dict()
            self.best = {name: value.clone() for name, value in state.items()}
        self.epochs.append(Epoch(loss, measure))

    def save(self, path: Path) -> None:
        content = {
            "identity": self._identity,
            "epochs": [(epoch.loss, epoch.measure) for epoch in self.epochs],
            "module": self._module.state_dict(),
            "best": self.best,
            "optimizer": self._optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(buffer.getbuffer())

    def resume(self, path: Path) -> bool:
        """Load the checkpoint of this run; return False if there is none."""
        if not path.exists():
            return False
        # weights_only: loads tensors and plain values, and runs no code of the file.
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["identity"] != self._identity:
            return False
        self.epochs = [Epoch(*epoch) for epoch in content["epochs"]]
        self.best = content["best"]
        self._module.load_state_dict(content["module"])
        self._optimizer.load_state_dict(content["optimizer"])
        return True


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    """Seed torch's generator for an epoch; restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + number)
        yield


def _train_epoch(
    task: TrainingTask,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    run: _Run,
    report: Report,
) -> float:
    """Train on each example of an epoch once; return the mean loss."""
    order = torch.randperm(task.num_examples)[: epoch_size(task, settings)]
    task.module.train()
    total = 0.0
    for start in range(0, len(order), settings.batch_size):
        batch = order[start : start + settings.batch_size]
        progress = (len(run.epochs) + start / len(order)) / settings.epochs
        optimizer.param_groups[0]["lr"] = settings.rate_at(progress)
        optimizer.zero_grad()
        loss = task.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"loss: expected a finite number, got {value}; lower the learning rate of"
                f" {settings.learning_rate}"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(task.module.parameters(), settings.max_gradient_norm)
        optimizer.step()
        total += value * len(batch)
        epoch = f"epoch {len(run.epochs) + 1} of {settings.epochs}, loss {value:.4f}"
        report(len(batch), epoch + (f", {run.state}" if run.state else ""))
    return total / len(order)


def _measure(task: TrainingTask) -> float:
    task.module.eval()
    with torch.inference_mode():
        return task.measure()
