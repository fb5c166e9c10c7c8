"""The peers, a file each."""

from bench.peers.kinds.fbgemm import FbgemmInference
from bench.peers.kinds.lmdb_store import LmdbStore
from bench.peers.kinds.memmap import NumpyMemmap
from bench.peers.kinds.python_lru import PythonLru
from bench.peers.kinds.rocksdb import RocksDb
from bench.peers.kinds.tiered import Tiered, TieredAndPolicy
from bench.peers.kinds.torch_dram import TorchDram, TorchHugePages
from bench.peers.peer import Peer

#: By the names that `--peers` takes.
PEERS: dict[str, type[Peer]] = {
    "tieralloc": Tiered,
    "tieralloc-policy": TieredAndPolicy,
    "torch": TorchDram,
    "torch-huge": TorchHugePages,
    "fbgemm": FbgemmInference,
    "memmap": NumpyMemmap,
    "lmdb": LmdbStore,
    "rocksdb": RocksDb,
    "lru": PythonLru,
}
