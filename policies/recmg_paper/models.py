"""The two models of the paper: encoder-decoder LSTMs with attention, about 30,000 weights each."""

from __future__ import annotations

from tieralloc._common.torch import torch

#: Accesses per chunk.
CHUNK = 15
#: Points that the prefetch model emits per chunk.
POINTS = 5

_HIDDEN = 50
_TABLE_DIM = 8


class ChunkEncoder(torch.nn.Module):
    """Encodes a chunk: standardised positions of its accesses in the id space, and their tables.

    `mean` and `deviation` are of the positions of the training accesses.
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
        """Return the hidden state of each access, (batch, CHUNK, hidden), and the last state."""
        standard = (positions - self.mean) / self.deviation
        inputs = torch.cat([standard.unsqueeze(2), self.tables(tables)], dim=2)
        encoded, state = self.lstm(inputs)
        return encoded, state


class Attention(torch.nn.Module):
    """Luong's general attention of decoder steps over an encoded chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.key = torch.nn.Linear(_HIDDEN, _HIDDEN, bias=False)

    def forward(self, steps: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """Return (batch, steps, 2 * hidden) for steps (batch, steps, hidden)."""
        weights = torch.softmax(torch.bmm(steps, self.key(encoded).transpose(1, 2)), dim=2)
        return torch.cat([steps, torch.bmm(weights, encoded)], dim=2)


class CachingModel(torch.nn.Module):
    """Predicts for each access of a chunk whether OPT keeps its row."""

    def __init__(self, num_tables: int, mean: float, deviation: float) -> None:
        super().__init__()
        self.encoder = ChunkEncoder(num_tables, mean, deviation)
        self.decoder = torch.nn.LSTM(_HIDDEN, _HIDDEN, batch_first=True)
        self.attention = Attention()
        self.head = torch.nn.Linear(2 * _HIDDEN, 1)

    def forward(self, positions: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        """Return the log-odds of keeping, for positions and tables; all are (batch, CHUNK)."""
        encoded, state = self.encoder(positions, tables)
        steps, _ = self.decoder(encoded, state)
        logits: torch.Tensor = self.head(self.attention(steps, encoded)).squeeze(2)
        return logits


class PrefetchModel(torch.nn.Module):
    """Predicts the positions of the next missed rows in the id space."""

    def __init__(self, num_tables: int, mean: float, deviation: float) -> None:
        super().__init__()
        self.encoder = ChunkEncoder(num_tables, mean, deviation)
        self.num_points = POINTS  # an attribute: TorchScript reads no module constants
        self.decoder = torch.nn.LSTM(1, _HIDDEN, batch_first=True)
        self.attention = Attention()
        self.head = torch.nn.Linear(2 * _HIDDEN, 1)

    def forward(self, positions: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
        """Return points in (0, 1), (batch, POINTS), for the inputs of `CachingModel`."""
        encoded, state = self.encoder(positions, tables)
        point = positions[:, -1:]
        points: list[torch.Tensor] = []
        for _ in range(self.num_points):
            step, state = self.decoder(point.unsqueeze(2), state)
            point = torch.sigmoid(self.head(self.attention(step, encoded))).squeeze(2)
            points.append(point)
        return torch.cat(points, dim=1)
