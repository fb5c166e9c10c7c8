"""Updates of tieralloc beside numpy.memmap, LMDB and RocksDB; see ../README.md."""
