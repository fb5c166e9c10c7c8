"""The core of a store for several calls, which then see one version of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieralloc import _bindings
    from tieralloc.store import TieredStore

__all__ = ["HeldCore"]


class HeldCore:
    """A context that keeps a core, and its file open.

    The core is in no local variable, which the traceback of a kept exception would reference.

    Attributes
    ----------
    core : tieralloc._bindings.Store
        The store's core when the context was made, until its end.
    """

    __slots__ = ("core",)

    def __init__(self, store: TieredStore) -> None:
        self.core: _bindings.Store = store._core

    def __enter__(self) -> HeldCore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Release the core."""
        del self.core
