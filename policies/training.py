"""The training loop: seeded, resumable, and stopped by what is measured, not by the loss.

An epoch goes once over examples in random order, measures, and leaves a checkpoint. A run that was
interrupted and resumed ends with the weights of one that was not, bit for bit, given the same torch
and number of threads.
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
from tieralloc._common.progress import Narrate
from tieralloc._common.torch import torch

_RISING, _LOWEST = 0.1, 0.04  # of a cycle of the learning rate


class Learner(Protocol):
    """What can be trained."""

    @property
    def module(self) -> torch.nn.Module:
        """The module whose parameters are trained."""

    @property
    def num_examples(self) -> int:
        """Training examples, numbered from 0."""

    def loss(self, examples: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over some examples, (n,) int64, as a scalar to differentiate."""

    def measure(self) -> float:
        """Measure the module as it is on what it does not learn from; less is better.

        It is in evaluation mode, and gradients are off.
        """


@dataclass(frozen=True)
class Settings:
    """How to train.

    Parameters
    ----------
    epochs : int
        At most; each measures once.
    patience : int
        Epochs without a better measure after which training ends.
    batch_size : int
        Examples of a step.
    epoch_examples : int or None
        Examples of an epoch, drawn anew for each; None: all of them.
    learning_rate : float
        Of Adam.
    max_gradient_norm : float or None
        Longer gradients are shortened to that; None: none are.
    one_cycle : bool
        Whether the learning rate rises to that in the first tenth of all epochs and falls to
        nothing by the end of the last.
    measured : bool
        Whether epochs are measured; without it all of them are done and the last is the best.
    seed : int
        Of the order of examples and of what the module draws.
    """

    epochs: int = 20
    patience: int = 3
    batch_size: int = 256
    epoch_examples: int | None = None
    learning_rate: float = 2e-3
    max_gradient_norm: float | None = 1.0
    one_cycle: bool = False
    measured: bool = True
    seed: int = 0

    def rate_at(self, progress: float) -> float:
        """Return the learning rate when a share of all epochs is done."""
        if not self.one_cycle:
            return self.learning_rate
        if progress < _RISING:
            return self.learning_rate * (_LOWEST + (1 - _LOWEST) * progress / _RISING)
        fallen = (progress - _RISING) / (1 - _RISING)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * fallen))


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to; `measure` is 0 where nothing is measured."""

    loss: float
    measure: float


def epoch_size(learner: Learner, settings: Settings) -> int:
    """Return the examples of an epoch."""
    wanted = settings.epoch_examples
    return learner.num_examples if wanted is None else min(wanted, learner.num_examples)


def train(
    learner: Learner,
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    task: str = "",
    report: Narrate = lambda done, state: None,
) -> list[Epoch]:
    """Train until the measure gets no better; the module is left as the best epoch left it.

    Parameters
    ----------
    learner : Learner
        Its module as it is to begin with, which the seed does not decide.
    settings : Settings
        How.
    checkpoint : path, optional
        Where to keep what an interrupted run resumes from. It stays there in the end, when a
        further run takes the result from it.
    task : str
        What is trained on what. A checkpoint of another task, or of other settings, is no
        beginning: training starts anew and replaces it.
    report : callable
        Called after each step with the number of examples just learned from and how it goes, and
        for what a resumed run need not do again.

    Returns
    -------
    list of Epoch
        All epochs, of interrupted runs too.

    Raises
    ------
    ValueError
        Where there is nothing to learn from, or where the loss is no longer finite.
    """
    if learner.num_examples < 1:
        raise ValueError("there are no training examples, expected one or more")
    optimizer = torch.optim.Adam(learner.module.parameters(), lr=settings.learning_rate, fused=True)
    run = _Run(learner.module, optimizer, f"{task}; {asdict(settings)}", settings.measured)
    if checkpoint is not None and run.resume(checkpoint):
        report(epoch_size(learner, settings) * len(run.epochs), run.state)
    while not run.is_over(settings):
        with _seeded(settings.seed, len(run.epochs)):
            loss = _go_over(learner, optimizer, settings, run, report)
        run.note(loss, _measure(learner) if settings.measured else 0.0)
        if checkpoint is not None:
            run.save(checkpoint)
    learner.module.load_state_dict(run.best)
    return run.epochs


class _Run:
    """A training run as it stands between two epochs."""

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
        best = min(entry.measure for entry in self.epochs)
        return f"validation {self.epochs[-1].measure:.4f}, best {best:.4f}"

    def is_over(self, settings: Settings) -> bool:
        measures = [entry.measure for entry in self.epochs]
        if not measures or not self._measured:
            return len(measures) >= settings.epochs
        since_best = len(measures) - 1 - measures.index(min(measures))
        return len(measures) >= settings.epochs or since_best >= settings.patience

    def note(self, loss: float, measure: float) -> None:
        if not self._measured or all(measure < entry.measure for entry in self.epochs):
            state = self._module.state_dict()
            self.best = {name: value.clone() for name, value in state.items()}
        self.epochs.append(Epoch(loss, measure))

    def save(self, path: Path) -> None:
        content = {
            "identity": self._identity,
            "epochs": [(entry.loss, entry.measure) for entry in self.epochs],
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
        """Take up what was saved of this run; False where there is nothing of it."""
        if not path.exists():
            return False
        # Nothing but tensors and plain values: no code of whoever wrote the file runs.
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["identity"] != self._identity:
            return False
        self.epochs = [Epoch(*entry) for entry in content["epochs"]]
        self.best = content["best"]
        self._module.load_state_dict(content["module"])
        self._optimizer.load_state_dict(content["optimizer"])
        return True


@contextmanager
def _seeded(seed: int, number: int) -> Iterator[None]:
    """Let an epoch draw what it would draw in any process; others' draws go on undisturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + number)
        yield


def _go_over(
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    run: _Run,
    report: Narrate,
) -> float:
    """Learn from each example of an epoch once; return the mean loss."""
    order = torch.randperm(learner.num_examples)[: epoch_size(learner, settings)]
    learner.module.train()
    total = 0.0
    for start in range(0, len(order), settings.batch_size):
        batch = order[start : start + settings.batch_size]
        progress = (len(run.epochs) + start / len(order)) / settings.epochs
        optimizer.param_groups[0]["lr"] = settings.rate_at(progress)
        optimizer.zero_grad()
        loss = learner.loss(batch)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(f"the loss became {value}: a lower learning rate may help")
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.max_gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(learner.module.parameters(), settings.max_gradient_norm)
        optimizer.step()
        total += value * len(batch)
        report(len(batch), f"loss {value:.4f}" + (f", {run.state}" if run.state else ""))
    return total / len(order)


def _measure(learner: Learner) -> float:
    learner.module.eval()
    with torch.inference_mode():
        return learner.measure()
