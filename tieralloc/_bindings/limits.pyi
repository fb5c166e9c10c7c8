"""Types of `limits`."""

MAX_TABLE_ROWS: int
MAX_DIM: int
MAX_QUEUE_DEPTH: int
MAX_PREFETCH_THREADS: int
MAX_RING_BYTES: int
