"""Rows of int8 in tieralloc, in FBGEMM, also on huge pages, and in torch."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from bench.peers.in_dram import Fbgemm, Tieralloc, Torch
from bench.peers.workloads import Batch

_HUGE_PAGE = 2 << 20
#: Half the distance of two codes, with the rounding of scale and bias.
_TOLERANCE = 1 / 255 + 1 / 512


class TierallocInt8(Tieralloc):
    """A store of int8 rows with a slot for every row."""

    name = "tieralloc, int8"
    has_budget = False
    file_name = "int8.tier"
    dtype = "int8"
    tolerance = _TOLERANCE


class FbgemmInt8(Fbgemm):
    """IntNBitTableBatchedEmbeddingBagsCodegen at INT8, rows dense as on a CPU by default."""

    name = "FBGEMM, int8"
    tolerance = _TOLERANCE

    def open(self) -> None:
        import torch
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
            IntNBitTableBatchedEmbeddingBagsCodegen,
        )

        dim = self.dataset.dim
        specs = [
            (f"table{number}", rows, dim, SparseType.INT8, EmbeddingLocation.HOST)
            for number, rows in enumerate(self.dataset.table_rows)
        ]
        self._operator = IntNBitTableBatchedEmbeddingBagsCodegen(
            specs, device="cpu", output_dtype=SparseType.FP32
        )
        self._operator.initialize_weights()
        self._operator.weights_host = self._memory(self._operator.weights_host)
        quantise = torch.ops.fbgemm.FloatOrHalfToFusedNBitRowwiseQuantizedSBHalf
        splits = self._operator.split_embedding_weights(split_scale_shifts=False)
        for number, (weights, _) in enumerate(splits):
            first = 0
            for part in self.dataset.table_parts(number):
                rows = quantise(torch.from_numpy(part), 8)
                weights[first : first + len(part)] = torch.roll(rows, 4, dims=1)
                first += len(part)

    def _memory(self, weights: Any) -> Any:
        return weights


class FbgemmInt8HugePages(FbgemmInt8):
    """The same on huge pages, as the rows of a store are."""

    name = "FBGEMM, int8 on huge pages"

    def _memory(self, weights: Any) -> Any:
        import torch

        memory = mmap.mmap(-1, weights.numel() + _HUGE_PAGE)
        memory.madvise(mmap.MADV_HUGEPAGE)
        array = np.frombuffer(memory, np.uint8)
        begin = -array.ctypes.data % _HUGE_PAGE
        return torch.from_numpy(array[begin : begin + weights.numel()])


class TorchInt8(Torch):
    """torch.ops.quantized.embedding_bag_byte: FBGEMM's kernels with float32 scale and bias."""

    name = "torch, int8"
    tolerance = _TOLERANCE

    def open(self) -> None:
        import torch

        pack = torch.ops.quantized.embedding_bag_byte_prepack
        parts = [pack(torch.from_numpy(part)) for _, part in self.dataset.parts()]
        self._tables = [torch.cat(parts)]  # the workloads have one table

    def embedding_bag(self, batch: Batch) -> Any:
        import torch

        (table,) = self._tables
        indices, offsets = torch.from_numpy(batch.indices), torch.from_numpy(batch.offsets)
        return torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
            table, indices, offsets, include_last_offset=True
        )
