# distutils: language = c++
"""The files of a checkpoint and the places of its tables, for a store."""

from tieralloc._bindings.arguments cimport dtype_of
from tieralloc._bindings.core.slow_tier cimport (
    CheckpointPiece,
    CheckpointSource,
    CheckpointTable,
    JoinedTable,
)


cdef class Checkpoint:
    """Tables in files that others wrote.

    Parameters
    ----------
    name : bytes
        Name of all files, for statistics.
    files : sequence of (bytes, int, int, int)
        Path, inode, bytes and time of modification (nanoseconds) of each file.
    tables : sequence of (str, int, str, int, sequence)
        Name, dim, dtype and stride of each table, and its pieces in row order: number of the
        file, offset of the first row, rows.
    overlay : bytes or None
        Path of the file of updates.
    joined : sequence of (str, int, str, sequence of int)
        Tables of rows that are those of `tables` side by side: name, dim (0: bytes), dtype, and
        positions. None: the store has `tables`.
    """

    def __cinit__(self, bytes name not None, files, tables, bytes overlay, joined):
        cdef CheckpointSource source
        cdef CheckpointTable table
        cdef CheckpointPiece piece
        self._name = name
        if overlay is not None:
            self._overlay = overlay
        for source.path, source.stamp.inode, source.stamp.bytes, source.stamp.modified_ns in files:
            self._files.push_back(source)
        for table_name, table.dim, dtype, table.stride, pieces in tables:
            table.name = table_name.encode()
            table.dtype = dtype_of(dtype)
            table.pieces.clear()
            for piece.file, piece.offset, piece.rows in pieces:
                table.pieces.push_back(piece)
            self._tables.push_back(table)
        cdef JoinedTable joined_table
        for table_name, joined_table.dim, dtype, parts in joined:
            joined_table.name = table_name.encode()
            joined_table.dtype = dtype_of(dtype)
            joined_table.parts = parts
            self._joined.push_back(joined_table)
