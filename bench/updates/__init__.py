"""Updates of tieralloc compared with numpy.memmap, LMDB and RocksDB; see ../README.md."""
