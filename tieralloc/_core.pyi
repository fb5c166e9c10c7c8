"""Types of the compiled core."""

from typing_extensions import Buffer

def eviction_policy_names() -> list[str]: ...

class Simulator:
    def __init__(
        self,
        policy: str,
        capacity: int,
        rows: int,
        *,
        count_from: int = 0,
        seed: int = 0,
    ) -> None: ...
    def run(self, accesses: Buffer) -> None: ...
    @property
    def counts(self) -> dict[str, int]: ...

def belady(accesses: Buffer, rows: int, capacity: int, *, count_from: int = 0) -> dict[str, int]: ...
