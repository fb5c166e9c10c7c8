import numpy as np
from numpy.typing import NDArray

class RowOrder:
    def __init__(
        self,
        table: str,
        rows: int,
        rows_per_page: int,
        arranged: NDArray[np.uint64],
        page_lengths: NDArray[np.uint32],
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
    @property
    def num_rows(self) -> int: ...
    def arranged(self) -> NDArray[np.uint64]: ...
    def page_lengths(self) -> NDArray[np.uint32]: ...

def rows_per_page(dim: int, dtype: str) -> int: ...
