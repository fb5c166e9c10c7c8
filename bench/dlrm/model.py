"""The model: torchrec's DLRM over the tables of a trace, with the same weights in each process."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.dlrm.settings import BOTTOM_LAYERS, DENSE_FEATURES, TOP_LAYERS

if TYPE_CHECKING:
    import tieralloc as ta

#: The submodule of the embedding tables.
COLLECTION = "sparse_arch.embedding_bag_collection"
#: Embedding weights are small multiples of this, so that float32 sums are exact.
_STEP = 2.0**-12


def refusal() -> str | None:
    """Return why the model cannot be built; None if it can."""
    lacking = [name for name in ("torch", "torchrec", "fbgemm_gpu") if find_spec(name) is None]
    if lacking:
        return f"{' and '.join(lacking)} not installed; bench/README.md says how"
    try:
        import torchrec.models.dlrm  # noqa: F401
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        return f"torchrec does not load here: {type(error).__name__}: {error}"
    return None


def build(
    names: Sequence[str], rows: Sequence[int], embedding_dim: int, seed: int, *, empty: bool = False
) -> Any:
    """Build the model of tables with these names and rows; `empty` embeddings take no memory."""
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
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if not name.startswith(COLLECTION):
                weights.uniform_(-0.05, 0.05, generator=generator)
        if not empty:
            for bag in model.get_submodule(COLLECTION).embedding_bags.values():
                steps = torch.randint(-128, 129, bag.weight.shape, generator=generator)
                bag.weight.copy_(steps * _STEP)
    return model.eval()


def write_tables(
    model: Any, path: Path, names: Sequence[str], dtype: str, order: Path | None
) -> None:
    """Write the rows of a model's tables to a new file."""
    import tieralloc as ta

    bags = model.get_submodule(COLLECTION).embedding_bags
    file = ta.File(path, mode="w", warm_restart_interval=None)
    with ta.TieredStore(slow=file, fast_rows=1) as store:
        for name in names:
            rows = bags[name].weight.detach().numpy()
            store.create_table(name, *rows.shape, dtype, order=order).load(rows)


def put_into(model: Any, store: ta.TieredStore, names: Sequence[str]) -> Any:
    """Convert a model whose rows are in the store, in tables of these names."""
    import tieralloc as ta

    paths = {f"{COLLECTION}.embedding_bags.{name}": name for name in names}
    dtype: Any = {table.dtype for table in store.tables.values()}.pop()
    options = {} if dtype == "float32" else {"dtype": dtype}
    return ta.nn.convert(model, store, names=paths, load=False, verbose=False, **options).model
