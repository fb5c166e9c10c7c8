"""A small trace, its file, a store with its tables, and a directory of slow tiers."""

import pytest
from replay_cases import DIM

from tieralloc import TieredStore
from tieralloc.tools.replay.source import SourceRows
from tieralloc.trace import generate, write


@pytest.fixture(scope="session")
def trace():
    return generate(num_samples=600, num_tables=3, name="small")


@pytest.fixture(scope="session")
def source(trace):
    return SourceRows(trace.num_embeddings.tolist(), DIM)


@pytest.fixture
def store(trace, source, tmp_path):
    """A store of the trace's tables, loaded from the source, with few fast rows."""
    with TieredStore(tmp_path / "slow.tier", fast_rows=50) as store:
        for position, name in enumerate(trace.table_names):
            table = store.create_table(name, source.num_embeddings[position], DIM)
            table.load(source.parts(position))
        yield store


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "small.npz"
    write(generate(num_samples=600, num_tables=3), path)
    return str(path)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Default directory of slow tiers."""
    directory = tmp_path / "disk"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory
