"""The two models: small encoder-decoder LSTMs with attention, about 30,000 weights each."""

from __future__ import annotations

from tieralloc._common.torch import torch

#: Accesses of a chunk.
CHUNK = 15
#: Points that the prefetch model emits for a chunk.
POINTS = 5

_HIDDEN = 50
_TABLE_DIM = 8


class ChunkEncoder(torch.nn.Module):
    """Reads a chunk: the accesses' positions in the id space, standardised, and their tables.

    Parameters
    ----------
    num_tables : int
        Tables there are.
    mean, deviation : float
        Of the positions of the accesses that are learned from.
    """

    def __init__(self, num_tables: int, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean = mean
        self.deviation = deviation
        self.tables = torch.nn.Embedding(num_tables, _TABLE_DIM)
        self.lstm = torch.nn.LSTM(1 + _TABLE_DIM, _HIDDEN, batch_first=True)

    def forward(
        self, positions: torch.Tensor, tables: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Return what is known at each access, (batch, CHUNK, hidden), and the last state."""
        standard = (positions - self.mean) / self.deviation
        inputs = torch.cat([standard.unsqueeze(2), self.tables(tables)], dim=2)
        read, state = self.lstm(inputs)
        return read, state


class Attention(torch.nn.Module):
    """Adds to each step of a decoder what of the chunk concerns it (Luong's general attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.key = torch.nn.Linear(_HIDDEN, _HIDDEN, bias=False)

    def forward(self, steps: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """Return (batch, steps, 2 * hidden) for steps (batch, steps, hidden)."""
        weights = torch.softmax(torch.bmm(steps, self.key(read).transpose(1, 2)), dim=2)
        return torch.cat([steps, torch.bmm(weights, read)], dim=2)


class CachingModel(torch.nn.Module):
    """Says of each access of a chunk whether its row is worth keeping.

    Parameters
    ----------
    num_tables, mean, deviation
        As for `ChunkEncoder`.
    """

    def __init__(self, num_tables: int, mean: float, deviation: float) -> None:
        super().__init__()
        self.encoder = ChunkEncoder(num_tables, mean, deviation)
        self.decoder = torch.nn.LSTM(_HIDDEN, _HIDDEN, batch_first=True)
        self.attention = Attention()
        self.head = torch.nn.Linear(2 * _HIDDEN, 1)

    def forward(self, positions: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of keeping, (batch, CHUNK).

        Parameters
        ----------
        positions : (batch, CHUNK) float32
            In the id space.
        tables : (batch, CHUNK) int64
            Numbers of the tables.
        """
        read, state = self.encoder(positions, tables)
        steps, _ = self.decoder(read, state)
        logits: torch.Tensor = self.head(self.attention(steps, read)).squeeze(2)
        return logits


class PrefetchModel(torch.nn.Module):
    """Emits points of the id space near which rows will be missed.

    Parameters
    ----------
    num_tables, mean, deviation
        As for `ChunkEncoder`.
    """

    def __init__(self, num_tables: int, mean: float, deviation: float) -> None:
        super().__init__()
        self.encoder = ChunkEncoder(num_tables, mean, deviation)
        self.num_points = POINTS  # where TorchScript finds it
        self.decoder = torch.nn.LSTM(1, _HIDDEN, batch_first=True)
        self.attention = Attention()
        self.head = torch.nn.Linear(2 * _HIDDEN, 1)

    def forward(self, positions: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        """Return points in (0, 1), (batch, POINTS), for what `CachingModel` takes."""
        read, state = self.encoder(positions, tables)
        point = positions[:, -1:]
        points: list[torch.Tensor] = []
        for _ in range(self.num_points):
            step, state = self.decoder(point.unsqueeze(2), state)
            point = torch.sigmoid(self.head(self.attention(step, read))).squeeze(2)
            points.append(point)
        return torch.cat(points, dim=1)
