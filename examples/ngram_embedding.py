"""Add embeddings of 2- and 3-grams, read in place from a checkpoint, to hidden states.

    pip install 'tieralloc[torch]' safetensors
    python examples/ngram_embedding.py

Makes a checkpoint of a small language model with a table of n-grams per layer. The rows of all
layers are known before the forward pass: their lookups begin together, and each layer waits for its
own. The output is compared with that of the tables in memory.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

import tieralloc as ta

VOCABULARY = 32_000
HIDDEN = 256
DIM = 80  # of a row: 160 bytes of bfloat16
HEADS = 8  # hash functions of each n
ORDERS = (2, 3)
LAYERS = 3


class NgramHash(torch.nn.Module):
    """Rows of the n-grams that end at each token: one of each order and head."""

    def __init__(self, num_rows, seed):
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        shape = (max(ORDERS), len(ORDERS) * HEADS)
        factors = torch.randint(1 << 40, shape, generator=random) * 2 + 1
        for i, order in enumerate(ORDERS):
            factors[order:, i * HEADS : (i + 1) * HEADS] = 0  # tokens that the n-gram has not
        self.register_buffer("factors", factors)
        self.num_rows = num_rows

    def forward(self, tokens):
        """Return (batch, length, orders * heads) rows of (batch, length) tokens."""
        padded = torch.nn.functional.pad(tokens, (max(ORDERS) - 1, 0))
        ngrams = padded.unfold(1, max(ORDERS), 1).flip(-1) + 1  # the last token first
        mixed = (ngrams[..., None] * self.factors).sum(dim=2)  # modulo 2**64
        return (mixed >> 20) % self.num_rows


class Block(torch.nn.Module):
    """A layer: hidden states, and the rows of the n-grams that end at each token."""

    def __init__(self, num_rows, seed):
        super().__init__()
        self.hash = NgramHash(num_rows, seed)
        self.project = torch.nn.Linear(len(ORDERS) * HEADS * DIM, HIDDEN, bias=False)
        self.mix = torch.nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, hidden, rows):
        """Return the next hidden states; `rows` are (batch, length, orders * heads, dim)."""
        hidden = hidden + self.project(rows.flatten(2))
        return hidden + self.mix(hidden)[0]


class Model(torch.nn.Module):
    """Blocks whose rows `fetch` begins to look up, layer by layer."""

    def __init__(self, num_rows):
        super().__init__()
        self.embed = torch.nn.Embedding(VOCABULARY, HIDDEN)
        self.blocks = torch.nn.ModuleList(Block(num_rows, seed) for seed in range(LAYERS))

    def forward(self, tokens, fetch):
        """Return hidden states; `fetch(layer, indices)` returns a function that waits for rows."""
        waits = [fetch(i, block.hash(tokens)) for i, block in enumerate(self.blocks)]
        hidden = self.embed(tokens)
        for block, wait in zip(self.blocks, waits, strict=True):
            hidden = block(hidden, wait())
        return hidden


def fetch_from(store):
    """Return a `fetch` that begins lookups in the background."""

    def fetch(layer, indices):
        out = torch.empty(*indices.shape, DIM)
        rows = out.view(-1, DIM).numpy()
        lookup = store.lookup_async(f"ngram.{layer}", indices.flatten().numpy(), rows)

        def wait():
            lookup.wait()
            return out

        return wait

    return fetch


def fetch_in_memory(tables):
    """Return a `fetch` from tensors."""
    return lambda layer, indices: lambda: tables[f"ngram.{layer}"][indices].float()


def write_checkpoint(folder, num_rows):
    """Write a table a layer, in two shards each; return the tables."""
    random = torch.Generator().manual_seed(0)
    tables = {
        f"ngram.{layer}": torch.randn(num_rows, DIM, generator=random).bfloat16()
        for layer in range(LAYERS)
    }
    for shard in range(2):
        part = {f"{name}.{shard}": rows.chunk(2)[shard] for name, rows in tables.items()}
        save_file(
            {name: rows.contiguous() for name, rows in part.items()},
            folder / f"{shard}.safetensors",
        )
    return tables


def main(num_rows, tokens, folder):
    """Serve a prompt and some tokens after it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tables = write_checkpoint(folder, num_rows)
    names = {name: [f"{name}.0", f"{name}.1"] for name in tables}
    slow = ta.Checkpoint(folder / "*.safetensors", tables=names)
    model = Model(num_rows).eval()
    prompt = torch.randint(VOCABULARY, (1, tokens))
    with ta.TieredStore(slow=slow, fast_bytes="16MiB") as store, torch.inference_mode():
        fetch, reference = fetch_from(store), fetch_in_memory(tables)
        for what, part in (("prefill", prompt), ("again", prompt), ("decode", prompt[:, -3:])):
            began = time.perf_counter()
            hidden = model(part, fetch)
            milliseconds = 1e3 * (time.perf_counter() - began)
            rows = part.numel() * len(ORDERS) * HEADS * LAYERS
            is_equal = torch.equal(hidden, model(part, reference))
            print(f"{what:8} {rows:>7,} rows {milliseconds:8.1f} ms, as in memory: {is_equal}")
            if not is_equal:
                raise SystemExit("the hidden states differ")
        print(f"misses: {store.stats().miss_ratio:.2f} of the rows")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000, help="of a layer's table")
    parser.add_argument("--tokens", type=int, default=512, help="of the prompt")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        main(arguments.rows, arguments.tokens, Path(name))
