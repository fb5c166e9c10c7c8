"""torch modules for inference whose embedding rows are in a store.

The modules read indices, offsets and weights in the memory of torch's tensors and write results
into tensors, without copies. Any number of threads may call a module, in any gradient mode.
Modules have no parameters: results require no gradient, and `Module.state_dict` has references to
tables instead of rows. Copies share the store; pickles refer to its file.
In graphs of ``torch.compile`` and ``torch.export`` they are operators. TorchScript raises an error.
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("tieralloc.nn needs torch: pip install tieralloc[torch]") from error

from tieralloc.nn._attached import attach
from tieralloc.nn._checkpoints import references, state_dict
from tieralloc.nn._collection import TieredEmbeddingBagCollection
from tieralloc.nn._convert import convert
from tieralloc.nn._embeddings import TieredEmbedding, TieredEmbeddingBag
from tieralloc.nn._hooks import batch_lookups, prefetch
from tieralloc.nn._restore import restore
from tieralloc.nn._summary import Conversion, ModuleConversion

__all__ = [
    "Conversion",
    "ModuleConversion",
    "TieredEmbedding",
    "TieredEmbeddingBag",
    "TieredEmbeddingBagCollection",
    "attach",
    "batch_lookups",
    "convert",
    "prefetch",
    "references",
    "restore",
    "state_dict",
]
