"""torch modules whose rows live in a store: torch.nn's embeddings, for inference.

Indices, offsets and weights are read where torch has them and results are written where torch will
have them; nothing is copied on the way. The modules may be called from any number of threads, in
any of torch's gradient modes. They have no parameters: what they return requires no gradient,
`state_dict` has none of their rows, and ``.to()`` leaves them as they are. ``torch.compile`` breaks
its graph around them.
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("tieralloc.nn needs torch: pip install tieralloc[torch]") from error

from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.nn._convert import convert
from tieralloc.nn._embeddings import TieredEmbedding, TieredEmbeddingBag

__all__ = ["TieredEmbedding", "TieredEmbeddingBag", "TieredEmbeddingBagCollection", "convert"]
