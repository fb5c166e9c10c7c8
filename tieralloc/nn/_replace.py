"""Modules in place of others in a model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

# Prefixes of the state of torch modules that a replacement takes over. The hooks are the same
# dictionaries, so that their handles still remove them.
_KEPT = ("training", "_forward_", "_backward_", "_is_full_backward_hook")
_DROPPED = ("_compiled_call_impl",)  # the result of Module.compile: it runs the old module


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Replace modules anywhere in a model; return the model, or its replacement."""
    # A model may redefine setattr, and nothing may fail from here on.
    for parent in list(model.modules()):
        for key, child in parent._modules.items():
            if child is not None:
                parent._modules[key] = replacements.get(child, child)
    return replacements.get(model, model)


def take_over(new: nn.Module, old: nn.Module, attributes: bool = True) -> None:
    """Copy the training flag, the hooks and, if requested, the attributes of the old module."""
    dropped = {*_DROPPED, *vars(old).get("_own_names", ())}
    vars(new).update(
        {
            key: value
            for key, value in vars(old).items()
            if key.startswith(_KEPT) or (attributes and key not in vars(new) and key not in dropped)
        }
    )
