"""The network of TransFetch: attention over segmented addresses, a bitmap of deltas."""

from __future__ import annotations

from tieralloc._torch import torch

#: Accesses that the network sees, the last one included.
HISTORY = 9

#: A row's number is read in segments of so many bits, each from a small vocabulary.
SEGMENT_BITS = 6


def segment_count(rows: int) -> int:
    """Return how many segments numbers of rows have."""
    return max(1, -(-max(rows - 1, 1).bit_length() // SEGMENT_BITS))


class DeltaNetwork(torch.nn.Module):
    """From the last accesses to the chance of each delta among those that follow.

    TransFetch (Zhang, Srivastava, Nori, Kannan and Prasanna, Computing Frontiers 2022): numbers are
    cut into segments, each embedded; attention over the accesses; sigmoid outputs, one a delta, so
    that any number of rows can follow. What the program counter is there is the table here.

    Parameters
    ----------
    segments, tables : int
        Of a row's number; how many tables there are.
    reach : int
        Deltas -reach to reach, without 0.
    width, heads, layers : int
        Of the attention.
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
        self.table = torch.nn.Embedding(tables + 1, width)  # the last one: before the first access
        self.place = torch.nn.Parameter(torch.zeros(HISTORY, width))
        self.layers = torch.nn.ModuleList(_Layer(width, heads) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(2 * width, 2 * reach)
        for embedding in (self.segment, self.table):
            torch.nn.init.normal_(embedding.weight, std=0.3)
        torch.nn.init.constant_(self.head.bias, -4.0)  # most deltas do not come

    def forward(self, rows: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        """Return logits.

        Parameters
        ----------
        rows, tables : (n, HISTORY) int64
            Numbers of the rows accessed, the last one last, and their tables.

        Returns
        -------
        (n, 2 * reach) float32
        """
        found = self.table(tables) + self.place
        for segment in range(self.segments):
            value = (rows >> (6 * segment)) & 63
            found = found + self.segment(value + 64 * segment)
        for layer in self.layers:
            found = layer(found)
        found = self.norm(found)
        logits: torch.Tensor = self.head(torch.cat([found[:, -1], found.mean(1)], 1))
        return logits


class _Layer(torch.nn.Module):
    """Attention of all accesses to all, and two linear layers on each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm = torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.out = torch.nn.Linear(width, width)
        self.second_norm = torch.nn.LayerNorm(width)
        self.wide = torch.nn.Linear(width, 2 * width)
        self.narrow = torch.nn.Linear(2 * width, width)

    def forward(self, found: torch.Tensor) -> torch.Tensor:
        n, length, width = found.shape
        qkv = self.qkv(self.first_norm(found)).view(n, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        found = found + self.out(attended.transpose(1, 2).reshape(n, length, width))
        hidden = torch.nn.functional.gelu(self.wide(self.second_norm(found)))
        deeper: torch.Tensor = found + self.narrow(hidden)
        return deeper
