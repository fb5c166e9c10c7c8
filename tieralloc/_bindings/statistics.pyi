"""Types of `statistics`."""

from typing import Any

def all_statistics() -> dict[str, Any]: ...
