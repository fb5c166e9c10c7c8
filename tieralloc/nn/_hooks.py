"""Requests of a model: hooks that begin and end them, and the lookups that are known early."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from tieralloc.nn import _lookups, _operators
from tieralloc.nn._inputs import Inputs, find_inputs, flatten
from tieralloc.nn._lookups import Lookup, by_store
from tieralloc.nn._modules import TieredModule, callers
from tieralloc.nn._request import Request, current_request, set_request
from tieralloc.nn._tensors import in_graph, is_exporting, run_eagerly

_Model = TypeVar("_Model", bound=nn.Module)
_ATTRIBUTE = "_tieralloc_requests"
_MAX_STRUCTURES = 64  # of inputs, whose functions are kept


class Requests:
    """The hooks of a model."""

    def __init__(self, model: nn.Module) -> None:
        self.serves_early = False
        self.is_shared = False  # whether a request has lookups of several modules
        self._inputs: dict[Any, Inputs] = {}
        self._warned: set[str] = set()
        self._handles = (
            model.register_forward_pre_hook(self._begin, with_kwargs=True),
            model.register_forward_hook(self._end, always_call=True),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_inputs": {}}  # functions of this model's modules

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _begin(self, model: nn.Module, arguments: Any, options: Any) -> None:
        if not in_graph():
            self._begin_request(model, arguments, options)
        elif self.serves_early and not is_exporting():
            run_eagerly(self._begin_request, model, arguments, options)

    def _begin_request(self, model: nn.Module, arguments: Any, options: Any) -> None:
        outer = current_request()
        if outer is not None and outer.model is model:
            outer = outer.outer  # it was interrupted
        if outer is not None and outer.has_part(model):
            return
        request = Request(model, outer)
        set_request(request)
        if self.serves_early:
            request.serve_early(self.plan(model, arguments, options))

    def _end(self, model: nn.Module, arguments: Any, result: Any) -> Any:
        if not torch.compiler.is_compiling():
            self._end_request(model)
        elif self.serves_early and not is_exporting():
            run_eagerly(self._end_request, model)
        elif self.is_shared and not is_exporting():
            return _end_in_graph(result)
        return None

    def _end_request(self, model: nn.Module) -> None:
        request = current_request()
        if request is None or request.model is not model:
            return
        set_request(request.outer)
        if not request.end():
            self._warn(
                "samples",
                "record: the modules of a request have different numbers of samples; the accesses "
                "of each number are recorded as samples of their own",
            )

    def plan(
        self, model: nn.Module, arguments: Any, options: Any, *, is_required: bool = False
    ) -> list[tuple[TieredModule, Lookup]]:
        """Return the lookups of a request that are known before it, and their modules.

        ValueError if there are none and `is_required`.
        """
        leaves: list[Any] = []
        structure = flatten((tuple(arguments), dict(options)), leaves)
        inputs = self._inputs.get(structure)
        if inputs is None:
            if len(self._inputs) == _MAX_STRUCTURES:
                self._inputs.clear()
            inputs = self._inputs[structure] = self._find_inputs(model, structure)
            if inputs.others and not is_required:
                self._warn(
                    "inputs",
                    f"the inputs of {len(inputs.others)} modules, such as {inputs.others[0]!r}, "
                    f"are not known before the model runs: {inputs.why_not()}; each of them waits "
                    "for the slow tier on its own",
                )
        if is_required and not inputs.modules:
            raise ValueError(
                f"model: expected inputs of tiered modules that are known before the model runs, "
                f"got none of {len(inputs.others)}: {inputs.why_not()}; call "
                "module.table.prefetch(indices) instead"
            )
        calls = zip(inputs.modules, inputs.function(leaves), strict=True)
        return [
            part
            for module, (positional, keywords) in calls
            for part in module.plan(*positional, **keywords)
        ]

    def _find_inputs(self, model: nn.Module, structure: Any) -> Inputs:
        request = current_request()
        set_request(Request(model, request))  # so that the hooks of a part of the model do nothing
        try:
            return find_inputs(model, structure)
        finally:
            set_request(request)

    def _warn(self, subject: str, text: str) -> None:
        if subject not in self._warned:
            self._warned.add(subject)
            warnings.warn(text, stacklevel=2)


def _end_in_graph(result: Any) -> Any:
    """Return the results of a forward pass, computed before the accesses are recorded."""
    leaves, structure = tree_flatten(result)
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    if places:
        leaves[places[0]] = _operators.end_request([leaves[place] for place in places])
    return tree_unflatten(leaves, structure)


def requests_of(model: nn.Module) -> Requests:
    """Return the requests of a model; attach them to a model without."""
    requests: Requests | None = vars(model).get(_ATTRIBUTE)
    return attach_requests(model) if requests is None else requests


def attach_requests(model: nn.Module) -> Requests:
    """Make each forward pass of a model a request; return the requests."""
    modules = callers(model)
    if not modules:
        raise ValueError(
            f"model: expected tiered modules, got none in the {type(model).__name__}; call "
            "tieralloc.nn.convert first"
        )
    for module in modules.values():
        module._shares_requests = len(modules) > 1
    requests: Requests = vars(model).get(_ATTRIBUTE) or Requests(model)
    requests.is_shared = len(modules) > 1
    vars(model)[_ATTRIBUTE] = requests
    return requests


def remove_requests(model: nn.Module) -> None:
    """Remove the hooks of a model and of its parts."""
    for module in model.modules():
        requests: Requests | None = vars(module).pop(_ATTRIBUTE, None)
        if requests is not None:
            requests.remove()


def prefetch(model: nn.Module, *inputs: Any, **options: Any) -> int:
    """Prefetch the rows of a later request of a converted model, in the background.

    A hint that returns at once: call it for a queued request while the model serves the one before
    it. The rows of all modules are queued together. For the request that is served next,
    `batch_lookups` is better: it fetches the rows of all modules in one wait.

    Parameters
    ----------
    model : torch.nn.Module
        A converted model, or a tiered module.
    *inputs, **options
        The arguments of the later call of `model`. As in `batch_lookups`, the first call with
        inputs of a structure runs ``model.forward`` once with proxies, which takes milliseconds.

    Returns
    -------
    int
        Rows queued. Resident rows and rows of small tables are not queued; rows that do not fit
        into the queue are dropped and counted.

    Raises
    ------
    ValueError
        If the inputs of no module are known before the model runs, with the reason; then call
        `Table.prefetch` with the indices. Also for a model without tiered modules or a closed
        store.
    IndexError, TypeError
        As for the modules.

    Examples
    --------
    >>> import torch, tieralloc as ta
    >>> from torch import nn
    >>> store = ta.TieredStore("prefetch.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.Embedding(100_000, 16), nn.Linear(16, 1))
    >>> summary = ta.nn.convert(model, store, verbose=False)
    >>> ta.nn.prefetch(model, torch.tensor([3, 1, 4]))
    3
    """
    if isinstance(model, TieredModule):
        planned = list(model.plan(*inputs, **options))
    else:
        planned = requests_of(model).plan(model, inputs, options, is_required=True)
    lookups: Sequence[Lookup] = [lookup for _, lookup in planned]
    return sum(map(_lookups.prefetch, by_store(lookups)))


def batch_lookups(model: _Model) -> _Model:
    """Serve the lookups of all modules of a model in one call per request, with one wait.

    Without it, each module of a converted model waits for its own rows. With it, the first
    module's rows are fetched with those of all others. Results are the same bit for bit. Once it
    is called, each forward pass of `model` computes the inputs of its tiered modules from its own
    inputs, looks all of them up, and runs.

    torch.fx finds the inputs. For inputs of a new structure, the first call runs
    ``model.forward`` once with proxies; code with effects on anything but its results should not
    be in it. Inputs are known if they come from the model's inputs by operations that torch.fx can
    trace, without other layers and without changes in place. A warning names modules whose inputs
    are not known; they wait on their own. A module that is called with other indices than were
    computed looks them up again.

    Parameters
    ----------
    model : torch.nn.Module
        A converted model, not in use by another thread.

    Returns
    -------
    torch.nn.Module
        `model`.

    Raises
    ------
    ValueError
        For a model without tiered modules.

    Examples
    --------
    >>> import torch, tieralloc as ta
    >>> from torch import nn
    >>> store = ta.TieredStore("batch.tier", fast_bytes="4MiB")
    >>> model = nn.Sequential(nn.Embedding(1000, 16), nn.Linear(16, 1))
    >>> summary = ta.nn.convert(model, store, verbose=False)
    >>> ta.nn.batch_lookups(model)(torch.tensor([3, 1, 4])).shape
    torch.Size([3, 1])
    """
    if not isinstance(model, TieredModule):  # which serves one call anyway
        requests_of(model).serves_early = True
        for module in callers(model).values():
            module._is_batched = True
    return model
