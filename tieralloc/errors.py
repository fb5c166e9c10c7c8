"""Names of the API before 1.0; each raises an error with its replacement."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

__all__ = ["RenamedAttribute", "raise_renamed", "refuse_renamed"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FILE = "slow=tieralloc.File(path, {}=...)"
_MEMORY = "tieralloc.NumaMemory(node, {}=...) as slow or fast_node"
_LEARNED = "policy=tieralloc.LearnedPolicy(directory, {}=...)"
_REMOVED = "no seed: random policies always start from seed 0"

#: Old names and their replacements. A keyword ends with "="; a command has a space.
_RENAMED = {
    "tieralloc compare": "python -m bench.paper, in a checkout",
    "tieralloc report": "python -m bench.page, in a checkout",
    "tieralloc replay --admission": "tieralloc replay --promotion",
    "tieralloc.NumaNode": "tieralloc.NumaMemory",
    "tieralloc.EmulatedMemory": "tieralloc.tools.emulated.EmulatedMemory",
    "tieralloc.simulate": "tieralloc.tools.simulate.simulate",
    "tieralloc.trace.Recorder": "TieredStore.record",
    "Recorder.trace": "Recorder.to_trace",
    "TieredStore.access_log": "TieredStore.record",
    "TieredStore.open": "TieredStore(path, mode='r+')",
    **{
        f"{name}=": _FILE.format(name)
        for name in ("engine", "direct", "reserve", "queue_depth", "prefetch_threads")
    },
    "strict=": _MEMORY.format("strict"),
    "admission=": "slow=tieralloc.NumaMemory(node, promotion=...)",
    "policy_bytes=": _LEARNED.format("memory"),
    "auto_pause=": _LEARNED.format("auto_pause"),
    "prefetch_cost=": _LEARNED.format("prefetch_cost"),
    "seed=": _REMOVED,
}


def raise_renamed(kind: type[Exception], name: str) -> None:
    """Raise an error that names the replacement of an old name; return for any other name."""
    if name in _RENAMED:
        raise kind(f"{name}: not in the API since tieralloc 1.0; expected {_RENAMED[name]}")


def refuse_renamed(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function so that an old keyword raises TypeError with its replacement.

    Other unknown keywords keep Python's own TypeError.
    """

    @wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name in kwargs:
            raise_renamed(TypeError, f"{name}=")
        return function(*args, **kwargs)

    return checked


class RenamedAttribute:
    """A class attribute that raises AttributeError with the replacement of its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise_renamed(AttributeError, self._name)
        raise AttributeError(self._name)
