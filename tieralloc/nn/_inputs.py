"""The inputs of a model's tiered modules, computed from the inputs of the model.

torch.fx runs `forward` once with proxies. The calls of tiered modules that it meets, up to the
first statement that it cannot trace, become a function from the inputs of the model to the inputs
of the modules. Left out are inputs that depend on other layers, or on operations in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from tieralloc.nn._modules import TieredModule, callers

_tracing = threading.Lock()


@dataclass(frozen=True)
class Inputs:
    """The modules whose inputs are known, in order of their calls, and the function to them."""

    modules: Sequence[TieredModule]
    function: Callable[[Sequence[Any]], Sequence[tuple[Sequence[Any], Mapping[str, Any]]]]
    others: Sequence[str]  # paths of the modules whose inputs are not known
    problem: str  # of the trace; empty if there was none

    def why_not(self) -> str:
        """Return why inputs are not known."""
        reason = "they depend on other layers, or an operation changes them in place"
        return f"torch.fx: {self.problem}" if self.problem else reason


def flatten(value: Any, leaves: list[Any]) -> Any:
    """Append the tensors and other objects in a value to `leaves`; return its structure.

    Lists, tuples and dicts are structure, and so are None, numbers and strings.
    """
    kind = type(value)
    if kind in (list, tuple):
        return (kind, *(flatten(each, leaves) for each in value))
    if kind is dict:
        return (kind, *((key, flatten(each, leaves)) for key, each in value.items()))
    if value is None or kind in (bool, int, float, str):
        return ("constant", kind, value)
    leaves.append(value)
    return len(leaves) - 1


def _unflatten(structure: Any, leaves: Any) -> Any:
    if isinstance(structure, int):
        return leaves[structure]
    kind, *parts = structure
    if kind is dict:
        return {key: _unflatten(part, leaves) for key, part in parts}
    if kind == "constant":
        return parts[1]
    return kind(_unflatten(part, leaves) for part in parts)


def find_inputs(model: nn.Module, structure: Any) -> Inputs:
    """Return the inputs of the modules for inputs of a structure: (arguments, options)."""
    tracer = _Tracer()
    problem = ""
    with _tracing:
        try:
            tracer.trace(_OneInput(model, structure))
        except Exception as error:  # any statement of a model may fail on proxies
            problem = f"{type(error).__name__}: {error}"
    nodes = [node for node in tracer.graph.nodes if node.op == "call_module"]
    calls = [node for node in nodes if node.target in tracer.tiered]
    known = [node for node in calls if _is_computable(node)]
    modules = [tracer.tiered[node.target] for node in known]
    others = [path for path, module in callers(model).items() if module not in modules]
    return Inputs(modules, _function_to(known, tracer), others, problem)


class _OneInput(nn.Module):
    """A model as a function of the list of its inputs."""

    def __init__(self, model: nn.Module, structure: Any) -> None:
        super().__init__()
        self.model = model
        self._structure = structure

    def forward(self, leaves: Any) -> Any:
        arguments, options = _unflatten(self._structure, leaves)
        # The hooks of the model would begin a request.
        return self.model.forward(*arguments, **options)


class _Tracer(fx.Tracer):
    """Traces one thread; torch.fx shows it the modules that other threads call meanwhile."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]
        self._thread = threading.get_ident()
        self.graph = fx.Graph()
        self.tiered: dict[str, TieredModule] = {}

    def _is_own(self) -> bool:
        return threading.get_ident() == self._thread

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, TieredModule) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not self._is_own():
            return forward(*args, **kwargs)
        if isinstance(m, TieredModule):
            self.tiered[self.path_of_module(m)] = m
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if not self._is_own():
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _is_computable(call: fx.Node) -> bool:
    """Return whether the inputs of a call can be computed early, with no effect."""
    seen: set[fx.Node] = set()
    waiting = list(call.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node.op == "call_module" or _is_in_place(node):
            return False
        seen.add(node)
        waiting += [each for each in node.all_input_nodes if each not in seen]
    return True


def _is_in_place(node: fx.Node) -> bool:
    if "out" in node.kwargs or node.kwargs.get("inplace"):
        return True
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") and not name.endswith("__")


def _function_to(calls: Sequence[fx.Node], tracer: _Tracer) -> Callable[[Sequence[Any]], Any]:
    """Return the function from the inputs of the graph to those of the calls."""
    needed: set[fx.Node] = set()
    waiting = list(calls)
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node not in needed:
                needed.add(node)
                waiting.append(node)
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in tracer.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    inputs = tuple((node.args, node.kwargs) for node in calls)
    graph.output(fx.node.map_arg(inputs, copies.__getitem__))
    module = fx.GraphModule(tracer.root if calls else nn.Module(), graph)
    function: Callable[[Sequence[Any]], Any] = module.forward
    return function
