"""Shards of tables: torchrec's plan as row ranges of ranks, checked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_REPLICATED = "data_parallel"
_SHARDINGS = ("table_wise", "row_wise", "table_row_wise", _REPLICATED)


class Shard(NamedTuple):
    """The rows from `first` to `last` of a table, on a rank."""

    rank: int
    first: int
    last: int


def is_replicated(shards: Sequence[Shard]) -> bool:
    """Return whether these are all rows of a table on several ranks."""
    return len(shards) > 1 and shards[0].last == shards[-1].last


@dataclass(frozen=True)
class ShardedTable:
    """A table of a collection and its shards in row order, one per rank at most.

    A replicated table has all rows on each rank.
    """

    name: str
    num_embeddings: int
    embedding_dim: int
    dtype: str
    mode: str
    features: tuple[str, ...]
    shards: tuple[Shard, ...]

    @property
    def is_replicated(self) -> bool:
        """Whether each rank has all rows."""
        return is_replicated(self.shards)

    @property
    def is_whole(self) -> bool:
        """Whether one rank has all rows."""
        return len(self.shards) == 1

    def shard_of(self, rank: int) -> Shard | None:
        """Return the shard of a rank."""
        return next((shard for shard in self.shards if shard.rank == rank), None)


@dataclass(frozen=True)
class Column:
    """A feature of a table; the result has the columns in order."""

    feature: str
    table: ShardedTable


def columns_of(tables: Iterable[ShardedTable]) -> list[Column]:
    """Return the columns of the result: table by table."""
    return [Column(feature, table) for table in tables for feature in table.features]


def result_names(columns: Sequence[Column]) -> list[str]:
    """Return the key of each column: its feature, or ``feature@table`` if tables share it."""
    uses = Counter(column.feature for column in columns)
    return [
        column.feature if uses[column.feature] == 1 else f"{column.feature}@{column.table.name}"
        for column in columns
    ]


def local_columns(columns: Sequence[Column], rank: int) -> list[Column]:
    """Return the columns with rows on a rank, in the order of the exchange.

    First those with all rows on the rank, pooled there as mean; then those pooled there as sum;
    then those with a range of rows on the rank, pooled there as sum. Indices of replicated tables
    do not travel.
    """
    local = [
        column
        for column in columns
        if column.table.shard_of(rank) is not None and not column.table.is_replicated
    ]
    return sorted(local, key=_group)


def _group(column: Column) -> int:
    if not column.table.is_whole:
        return 2
    return 0 if column.table.mode == "mean" else 1


def sharded_tables(
    configs: Iterable[Any], plan: Mapping[str, Any], num_ranks: int
) -> list[ShardedTable]:
    """Return the tables of torchrec's configurations with the shards of a plan."""
    tables = [_table(config, plan, num_ranks) for config in configs]
    names = [table.name for table in tables]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"tables: expected one or more, of different names, got {names}")
    if unknown := sorted(plan.keys() - set(names)):
        raise ValueError(f"plan: expected tables of {names}, got {unknown}")
    if all(table.is_replicated for table in tables):
        raise ValueError(
            "plan: all tables are replicated; expected a TieredEmbeddingBagCollection on each rank"
        )
    return tables


def _table(config: Any, plan: Mapping[str, Any], num_ranks: int) -> ShardedTable:
    if config.name not in plan:
        raise ValueError(f"plan: no table {config.name!r}; expected one of {sorted(plan)}")
    sharding = plan[config.name]
    if sharding.sharding_type not in _SHARDINGS:
        raise ValueError(
            f"plan: {config.name!r}: expected {' or '.join(_SHARDINGS)}, got "
            f"{sharding.sharding_type}"
        )
    shards = _shards(sharding, config, num_ranks)
    return ShardedTable(
        config.name,
        config.num_embeddings,
        config.embedding_dim,
        _dtype(config),
        _mode(config),
        tuple(config.feature_names),
        shards,
    )


def _dtype(config: Any) -> str:
    from torchrec.modules.embedding_configs import DataType

    dtypes = {
        DataType.FP32: "float32",
        DataType.FP16: "float16",
        DataType.BF16: "bfloat16",
        DataType.INT8: "int8",
        DataType.INT4: "int4",
    }
    if config.data_type not in dtypes:
        expected = ", ".join(kind.name for kind in dtypes)
        raise ValueError(f"table {config.name!r}: expected {expected}, got {config.data_type}")
    return dtypes[config.data_type]


def _mode(config: Any) -> str:
    pooling = getattr(config, "pooling", None)  # an EmbeddingConfig has none
    mode = "sum" if pooling is None else str(pooling.value).lower()
    if mode not in ("sum", "mean"):
        raise ValueError(f"table {config.name!r}: expected sum or mean pooling, got {mode}")
    return mode


def _shards(sharding: Any, config: Any, num_ranks: int) -> tuple[Shard, ...]:
    """Return the shards in row order; ValueError if they are not the table once."""
    if sharding.sharding_type == _REPLICATED:
        return tuple(Shard(rank, 0, config.num_embeddings) for rank in range(num_ranks))
    specs = [] if sharding.sharding_spec is None else list(sharding.sharding_spec.shards)
    ranks = sharding.ranks
    if ranks is None or len(ranks) != len(specs):
        ranks = [spec.placement.rank() for spec in specs]
    shards = []
    for rank, spec in zip(ranks, specs, strict=True):
        (first, column), (rows, columns) = spec.shard_offsets, spec.shard_sizes
        if (column, columns) != (0, config.embedding_dim):
            raise ValueError(
                f"plan: {config.name!r}: expected shards of all {config.embedding_dim} columns, "
                f"got {columns} from {column}"
            )
        if rows:
            shards.append(Shard(int(rank), int(first), int(first + rows)))
    shards.sort(key=lambda shard: shard.first)
    check_shards(config.name, config.num_embeddings, shards, num_ranks)
    return tuple(shards)


def check_shards(name: str, rows: int, shards: Sequence[Shard], num_ranks: int) -> None:
    """Raise ValueError unless shards, in row order, have each row once and different ranks."""
    end = 0
    for shard in shards:
        if shard.first != end:
            break
        end = shard.last
    if not shards or end != rows or shards[-1].last != rows:
        raise ValueError(
            f"plan: {name!r}: expected shards of rows 0 to {rows}, each row once, got "
            f"{[(shard.first, shard.last) for shard in shards]}"
        )
    ranks = [shard.rank for shard in shards]
    if len(set(ranks)) != len(ranks) or not 0 <= min(ranks) <= max(ranks) < num_ranks:
        raise ValueError(f"plan: {name!r}: expected different ranks below {num_ranks}, got {ranks}")


def parameter_sharding(shards: Iterable[Shard], embedding_dim: int) -> Any:
    """Return torchrec's ParameterSharding of row ranges."""
    from torchrec.distributed.types import (
        EnumerableShardingSpec,
        ParameterSharding,
        ShardMetadata,
    )

    ordered = sorted(shards, key=lambda shard: shard.first)
    ranks = [shard.rank for shard in ordered]
    if is_replicated(ordered):
        return ParameterSharding(_REPLICATED, compute_kernel="dense", ranks=ranks)
    specs = [
        ShardMetadata(
            shard_offsets=[shard.first, 0],
            shard_sizes=[shard.last - shard.first, embedding_dim],
            placement=f"rank:{shard.rank}/cpu",
        )
        for shard in ordered
    ]
    return ParameterSharding(
        sharding_type="table_wise" if len(ordered) == 1 else "row_wise",
        compute_kernel="fused",
        ranks=ranks,
        sharding_spec=EnumerableShardingSpec(specs),
    )


def digest(tables: Iterable[ShardedTable], num_ranks: int) -> str:
    """Return what identifies a plan: 16 hexadecimal digits."""
    content = [
        [table.name, table.num_embeddings, table.embedding_dim, table.dtype, table.shards]
        for table in sorted(tables, key=lambda table: table.name)
    ]
    text = json.dumps([num_ranks, content])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
