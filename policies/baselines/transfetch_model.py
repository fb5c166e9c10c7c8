"""The network of TransFetch: attention over segmented addresses, a bitmap of deltas."""

from __future__ import annotations

from tieralloc._common.torch import torch

#: Accesses per input of the network, the current one included.
HISTORY = 9

#: Bits of a segment of a row's number.
SEGMENT_BITS = 6


def segment_count(rows: int) -> int:
    """Return the number of segments of a row number below `rows`."""
    return max(1, -(-max(rows - 1, 1).bit_length() // SEGMENT_BITS))


class DeltaNetwork(torch.nn.Module):
    """Predicts the probability of each delta to the next rows from the last accesses.

    TransFetch (Zhang, Srivastava, Nori, Kannan and Prasanna, Computing Frontiers 2022): row numbers
    are cut into segments, each embedded; attention over the accesses; one sigmoid output per delta
    from -reach to reach without 0, for any number of next rows. The row's table replaces the
    paper's program counter.
    """

    def __init__(
        self,
        segments: int,
        tables: int,
        reach: int,
        width: int = 32,
        heads: int = 4,
        layers: int = 1,
    ) -> None:
        super().__init__()
        self.segments = segments
        self.segment = torch.nn.Embedding(segments << SEGMENT_BITS, width)
        self.table = torch.nn.Embedding(tables + 1, width)  # the last one is padding
        self.place = torch.nn.Parameter(torch.zeros(HISTORY, width))
        self.layers = torch.nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(2 * width, 2 * reach)
        for embedding in (self.segment, self.table):
            torch.nn.init.normal_(embedding.weight, std=0.3)
        torch.nn.init.constant_(self.head.bias, -4.0)  # few deltas occur

    def forward(self, rows: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        """Return logits, (n, 2 * reach), for rows and their tables, (n, HISTORY) int64."""
        hidden = self.table(tables) + self.place
        for segment in range(self.segments):
            value = (rows >> (6 * segment)) & 63
            hidden = hidden + self.segment(value + 64 * segment)  # 64 = 1 << SEGMENT_BITS
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = self.norm(hidden)
        logits: torch.Tensor = self.head(torch.cat([hidden[:, -1], hidden.mean(1)], 1))
        return logits


class _Layer(torch.nn.Module):
    """Self-attention over the accesses, then two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm = torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.second_norm = torch.nn.LayerNorm(width)
        self.wide = torch.nn.Linear(width, 2 * width)
        self.narrow = torch.nn.Linear(2 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        n, length, width = hidden.shape
        qkv = self.qkv(self.first_norm(hidden)).view(n, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        hidden = hidden + self.out(attended.transpose(1, 2).reshape(n, length, width))
        wide = torch.nn.functional.gelu(self.wide(self.second_norm(hidden)))
        output: torch.Tensor = hidden + self.narrow(wide)
        return output
