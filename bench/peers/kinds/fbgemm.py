"""FBGEMM's CPU inference operator at FP32, every row in DRAM."""

from __future__ import annotations

from typing import Any

from bench.peers.loads import Batch
from bench.peers.peer import Peer, import_refusal


class FbgemmInference(Peer):
    """IntNBitTableBatchedEmbeddingBagsCodegen with EmbeddingLocation.HOST."""

    name = "FBGEMM"
    side_by_side = True

    @classmethod
    def refusal(cls) -> str | None:
        return import_refusal("torch", "fbgemm_gpu")

    def prepare(self) -> None:
        pass

    def load(self) -> None:
        import torch
        from fbgemm_gpu.split_embedding_configs import SparseType
        from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
        from fbgemm_gpu.split_table_batched_embeddings_ops_inference import (
            IntNBitTableBatchedEmbeddingBagsCodegen,
        )

        specs = [
            (f"table{number}", rows, self.dataset.dim, SparseType.FP32, EmbeddingLocation.HOST)
            for number, rows in enumerate(self.dataset.table_rows)
        ]
        self._operator = IntNBitTableBatchedEmbeddingBagsCodegen(
            specs, device="cpu", output_dtype=SparseType.FP32
        )
        self._operator.initialize_weights()
        for number, (weights, _) in enumerate(self._operator.split_embedding_weights()):
            rows = weights.view(torch.float32)
            first = 0
            for chunk in self.dataset.table_chunks(number):
                rows[first : first + len(chunk)] = torch.from_numpy(chunk)
                first += len(chunk)

    def use_threads(self, count: int) -> None:
        import torch

        torch.set_num_threads(count)

    def embedding_bag(self, batch: Batch) -> Any:
        import torch

        with torch.inference_mode():
            return self._operator(torch.from_numpy(batch.indices), torch.from_numpy(batch.offsets))

    def dram_bytes(self) -> int:
        return self.dataset.rows * self.dataset.row_bytes

    def close(self) -> None:
        del self._operator
