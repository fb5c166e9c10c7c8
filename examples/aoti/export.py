"""Exports a converted model and compiles it by AOTInductor: python export.py FOLDER.

Writes FOLDER/rows.tier and FOLDER/model.pt2, for `serve`, and prints the scores of its request.
"""

import sys
from pathlib import Path

import torch
from torch import nn

import tieralloc as ta


class Scorer(nn.Module):
    """Scores users by the items that they have seen."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.EmbeddingBag(1000, 32, mode="sum")
        self.users = nn.Embedding(500, 32)
        self.top = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(
        self, items: torch.Tensor, offsets: torch.Tensor, users: torch.Tensor
    ) -> torch.Tensor:
        """Return one score per sample."""
        return self.top(self.items(items, offsets) + self.users(users)).squeeze(1)


def main(folder: Path) -> None:
    """Make both files."""
    model = Scorer().eval()
    store = ta.TieredStore(folder / "rows.tier", mode="w", fast_bytes="64KiB")
    ta.nn.convert(model, store, dtype="int8", verbose=False)
    request = (
        torch.arange(64) * 7919 % 1000,
        torch.arange(0, 64, 4),
        torch.arange(16) * 31 % 500,
    )
    rows, samples = torch.export.Dim("rows"), torch.export.Dim("samples")
    shapes = ({0: rows}, {0: samples}, {0: samples})
    program = torch.export.export(model, request, dynamic_shapes=shapes)
    package = torch._inductor.aoti_compile_and_package(
        program, package_path=str(folder / "model.pt2")
    )
    with torch.inference_mode():
        scores = torch._inductor.aoti_load_package(package)(*request)
        torch.testing.assert_close(scores, model(*request))
    for score in scores.tolist():
        print(f"{score:.9g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
