"""A request: one forward pass of a model, and the lookups of its modules.

The accesses of a request are recorded together at its end, so that bag b of each table belongs to
sample b. Lookups that are known before the model runs are served as one call of the store; a
module takes its result if it is called with the same indices, and looks them up otherwise.

A compiled forward pass is a graph, which has no hooks. Its lookups wait in `_thread.compiled` until
the operator at its end records them together.

Concurrency: a thread has one request at a time.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from tieralloc._common.held_core import HeldCore
from tieralloc.nn._lookups import Lookup, by_store, record, serve

if TYPE_CHECKING:
    from tieralloc.nn._modules import TieredModule
    from tieralloc.store import TieredStore

_MAX_WAITING = 1024  # lookups of a compiled forward pass: one without tensors as results has no end
_thread = threading.local()  # .request: the request in progress; .compiled: lookups to record


class _Served(NamedTuple):
    """A result, with the state of the tensors that it was looked up by."""

    lookup: Lookup
    states: list[int | Tensor | None]
    result: Tensor

    def matches(self, sources: Sequence[Tensor | None]) -> bool:
        """Return whether these are the same indices, offsets and weights."""
        if len(sources) != len(self.states):
            return False
        return all(map(_is_same, self.lookup.sources, self.states, sources))


class Request:
    """The lookups of a forward pass of `model`; `outer` is the request that calls it, if any."""

    def __init__(self, model: nn.Module, outer: Request | None = None) -> None:
        self.model = model
        self.outer = outer
        self._served: dict[TieredModule, deque[_Served]] = {}
        self._to_record: list[Lookup] = []
        self._held: dict[TieredStore, HeldCore] = {}  # a forward pass sees one version of a file

    def has_part(self, model: nn.Module) -> bool:
        """Return whether the forward pass of a model belongs to this request."""
        return any(part is model for part in self.model.modules())

    def serve_early(self, planned: Sequence[tuple[TieredModule, Lookup]]) -> None:
        """Serve lookups as one call per store, for the modules that will ask for them."""
        modules = {id(lookup): module for module, lookup in planned}
        for lookups in by_store([lookup for _, lookup in planned]):
            accesses = "unrecorded" if lookups[0].store._core.records else "recorded"
            results = serve(lookups, accesses, self._core_of(lookups[0].store))
            for lookup, result in zip(lookups, results, strict=True):
                states = [_state_of(source) for source in lookup.sources]
                waiting = self._served.setdefault(modules[id(lookup)], deque())
                waiting.append(_Served(lookup, states, result))

    def serve(
        self,
        module: TieredModule,
        sources: Sequence[Tensor | None],
        make: Callable[[], Lookup],
    ) -> Tensor:
        """Return the result of a lookup, which `make` makes of `sources`."""
        waiting = self._served.get(module)
        if waiting and (served := waiting.popleft()).matches(sources):
            lookup, result = served.lookup, served.result
            records = lookup.store._core.records
            if records:
                self._to_record.append(lookup.sampled())  # the caller may change the indices
            return result
        return self.serve_lookup(make())

    def serve_lookup(self, lookup: Lookup) -> Tensor:
        """Return the result of a lookup that was not served early."""
        records = lookup.store._core.records
        held = self._core_of(lookup.store)
        (result,) = serve([lookup], "unrecorded" if records else "recorded", held)
        if records:
            self._to_record.append(lookup.sampled())
        return result

    def _core_of(self, store: TieredStore) -> HeldCore:
        if store not in self._held:
            self._held[store] = HeldCore(store)
        return self._held[store]

    def end(self) -> bool:
        """Record the accesses; return whether all lookups of a store have the same samples."""
        self._held.clear()
        groups = by_store(self._to_record)
        for lookups in groups:
            record(lookups)
        return all(len({lookup.num_samples for lookup in group}) == 1 for group in groups)


def _state_of(tensor: Tensor | None) -> int | Tensor | None:
    """Return a tensor's version, or a copy where torch does not count versions."""
    if tensor is None:
        return None
    return tensor.clone() if tensor.is_inference() else tensor._version


def _is_same(former: Tensor | None, state: int | Tensor | None, now: Tensor | None) -> bool:
    """Return whether `now` has the values that `former` had in that state."""
    if former is None:
        return now is None
    if isinstance(state, Tensor):
        former = state
    elif former._version != state:
        return False
    if former is now:
        return True
    if not isinstance(now, Tensor) or now.is_nested or former.is_nested:
        return False
    return former.dtype == now.dtype and torch.equal(former, now)


def current_request() -> Request | None:
    """Return the request of this thread."""
    return getattr(_thread, "request", None)


def set_request(request: Request | None) -> None:
    """Begin or end the request of this thread."""
    _thread.request = request


def serve_in_request(
    module: TieredModule, sources: Sequence[Tensor | None], make: Callable[[], Lookup]
) -> Tensor:
    """Return the result of a module's lookup, as a part of the request in progress."""
    request = current_request()
    if request is not None:
        return request.serve(module, sources, make)
    lookup = make()
    if module._shares_requests and lookup.store._core.records:
        warnings.warn(
            f"a {type(module).__name__} was called outside a forward pass of its model: recorders "
            "and policies get its lookups as samples of their own, without those of the other "
            "modules. Call the model that was converted, not its modules or its forward method",
            stacklevel=2,
        )
    return serve([lookup])[0]


def serve_in_graph(lookup: Lookup, shares_request: bool) -> Tensor:
    """Return the result of a lookup of a graph, whose request has others if `shares_request`."""
    request = current_request()
    if request is not None:
        return request.serve_lookup(lookup)
    if not (shares_request and lookup.store._core.records):
        return serve([lookup])[0]
    if len(vars(_thread).get("compiled", ())) == _MAX_WAITING:
        end_compiled_request()
    waiting = vars(_thread).setdefault("compiled", [])
    try:
        (result,) = serve([lookup], "unrecorded")
    except BaseException:
        waiting.clear()  # the request ends here
        raise
    waiting.append(lookup.sampled())
    return result


def end_compiled_request() -> None:
    """Record the accesses of a compiled forward pass."""
    waiting: list[Lookup] | None = vars(_thread).pop("compiled", None)
    for lookups in by_store(waiting or []):
        record(lookups)
