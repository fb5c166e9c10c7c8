"""Types of `checkpoint`."""

from collections.abc import Iterable, Sequence

class Checkpoint:
    def __init__(
        self,
        name: bytes,
        files: Iterable[tuple[bytes, int, int, int]],
        tables: Iterable[tuple[str, int, str, int, Iterable[tuple[int, int, int]]]],
        overlay: bytes | None,
        joined: Iterable[tuple[str, int, str, Sequence[int]]],
    ) -> None: ...
