"""The model: torchrec's DLRM over the tables of a trace, its weights the same each time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bench.dlrm.settings import BOTTOM_LAYERS, DENSE_FEATURES, TOP_LAYERS

if TYPE_CHECKING:
    import tieralloc as ta

#: Where the model has its embedding tables, and where these are beneath that.
COLLECTION = "sparse_arch.embedding_bag_collection"

#: Weights of the embeddings are multiples of this, few enough that sums of float32 are exact.
_STEP = 2.0**-12


def refusal() -> str | None:
    """Say what is missing to build the model; None where nothing is."""
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'tieralloc[torch]'"
    lacking = [name for name in ("torchrec", "fbgemm_gpu") if find_spec(name) is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed; bench/README.md says how"
    # Said at every first call of a model, and nothing that we could mend.
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    try:
        import torchrec.models.dlrm  # noqa: F401
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        return f"torchrec does not load here: {type(error).__name__}: {error}"
    return None


def build(
    names: Sequence[str], rows: Sequence[int], embedding_dim: int, seed: int, *, empty: bool = False
) -> Any:
    """Make the model of tables with these names and rows, one feature each.

    With `empty` the embeddings have no values, and take no memory.
    """
    import torch
    from torchrec.models.dlrm import DLRM
    from torchrec.modules.embedding_configs import EmbeddingBagConfig
    from torchrec.modules.embedding_modules import EmbeddingBagCollection

    torch.manual_seed(seed)
    tables = [
        EmbeddingBagConfig(
            name=name, embedding_dim=embedding_dim, num_embeddings=count, feature_names=[name]
        )
        for name, count in zip(names, rows, strict=True)
    ]
    device = torch.device("meta" if empty else "cpu")
    model = DLRM(
        embedding_bag_collection=EmbeddingBagCollection(tables=tables, device=device),
        dense_in_features=DENSE_FEATURES,
        dense_arch_layer_sizes=[*BOTTOM_LAYERS, embedding_dim],
        over_arch_layer_sizes=list(TOP_LAYERS),
    )
    generator = torch.Generator().manual_seed(seed)
    dense = [
        parameter for name, parameter in model.named_parameters() if not name.startswith(COLLECTION)
    ]
    with torch.no_grad():
        for parameter in dense:
            parameter.uniform_(-0.05, 0.05, generator=generator)
        if not empty:
            for bag in model.get_submodule(COLLECTION).embedding_bags.values():
                steps = torch.randint(-128, 129, bag.weight.shape, generator=generator)
                bag.weight.copy_(steps * _STEP)
    return model.eval()


def put_into(model: Any, store: ta.TieredStore, names: Sequence[str], *, load: bool) -> Any:
    """Convert a model; its tables have their own names in the store, as a policy knows them."""
    import tieralloc as ta

    paths = {f"{COLLECTION}.embedding_bags.{name}": name for name in names}
    return ta.nn.convert(model, store, names=paths, load=load)
