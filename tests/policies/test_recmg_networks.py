"""Networks of recmg in the core: native for the graph of HazardModel, else run by torch."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tieralloc.policies.recmg.model import HazardModel  # noqa: E402
from tieralloc.policies.recmg.networks import load_network, native_network  # noqa: E402

from tieralloc._bindings import LearnedModel, Network, Simulator, row_feature_names  # noqa: E402
from tieralloc.policy.directory import PolicyDirectory  # noqa: E402
from tieralloc.policy.scripted import compile_module  # noqa: E402

WIDTH = len(row_feature_names())
INTERVALS = [32, 64, 128, 256]
OUTPUTS = len(INTERVALS)
EXAMPLES = np.random.default_rng(0).normal(5, 3, (40, WIDTH)).astype(np.float32)
EXAMPLES[:, 0] = np.arange(40) % 3


def hazard_model(seed=0, num_tables=3, width=WIDTH, outputs=OUTPUTS):
    torch.manual_seed(seed)
    return HazardModel(num_tables, torch.rand(width) * 8, torch.rand(width) * 4, outputs).eval()


class Shallow(torch.nn.Module):
    """A graph without a native network."""

    def __init__(self, width: int = WIDTH, outputs: int = OUTPUTS, scale: float = 1.0):
        super().__init__()
        self.layer = torch.nn.Linear(width, outputs)
        self.scale = scale

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.layer(features)) * self.scale


class Squared(HazardModel):
    """The parameters of HazardModel with another graph."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.logits(features)) ** 2


def load(module, examples=EXAMPLES):
    archive = module if isinstance(module, bytes) else compile_module(module)
    directory = PolicyDirectory(Path("/policy"), None, {"caching": archive}, {"caching": examples})
    return load_network(directory, "caching", width=WIDTH, outputs=OUTPUTS)


def test_load_network_hazard_model_runs_natively():
    module = hazard_model()
    network = load(module)
    assert network.kind != "torch"
    with torch.inference_mode():
        expected = module(torch.from_numpy(EXAMPLES)).numpy()
    assert np.abs(network.evaluate(EXAMPLES) - expected).max() < 1e-4


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    num_tables=st.integers(1, 5),
    width=st.integers(2, 30),
    outputs=st.integers(1, 20),
    spread=st.floats(0.1, 100),
)
def test_native_network_matches_torchscript(seed, num_tables, width, outputs, spread):
    module = hazard_model(seed, num_tables, width, outputs)
    scripted = torch.jit.load(io.BytesIO(compile_module(module)))
    network = native_network(scripted.state_dict())
    rng = np.random.default_rng(seed)
    features = rng.normal(4, spread, (64, width)).astype(np.float32)
    features[:, 0] = rng.integers(-1, num_tables + 2, 64)
    with torch.inference_mode():
        expected = scripted(torch.from_numpy(features)).numpy()
    assert np.abs(network.evaluate(features) - expected).max() < 1e-4


def test_load_network_other_graph_runs_by_torch():
    module = Shallow().eval()
    network = load(module)
    assert network.kind == "torch"
    with torch.inference_mode():
        expected = module(torch.from_numpy(EXAMPLES)).numpy()
    assert np.array_equal(network.evaluate(EXAMPLES), expected)
    model = LearnedModel(
        network, intervals=INTERVALS, horizons=[32, 128], eviction_ages=[(1, 2.0), (64, 300.0)]
    )
    simulator = Simulator(model, 100, 1000)
    simulator.run(np.random.default_rng(0).integers(0, 1000, 3000).astype(np.uint64))
    assert simulator.policy_stats["network"] == "torch"
    assert simulator.policy_stats["evaluations"] > 0


@pytest.mark.parametrize("change", ["other outputs", "frozen", "other name", "other dimensions"])
def test_load_network_similar_graph_runs_by_torch(change):
    module = hazard_model()
    archive = compile_module(module)
    if change == "other outputs":
        mean = torch.rand(WIDTH)
        archive = compile_module(Squared(3, mean, torch.ones(WIDTH), OUTPUTS).eval())
    if change == "frozen":
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.freeze(torch.jit.script(module)), buffer)
        archive = buffer.getvalue()
    if change == "other name":
        module.register_buffer("extra", torch.zeros(1))
        archive = compile_module(module)
    if change == "other dimensions":
        module.mean = torch.nn.Parameter(module.mean[None], requires_grad=False)
        archive = compile_module(module)
    assert load(archive).kind == "torch"


def test_native_network_contradictory_sizes_returns_none():
    state = dict(hazard_model().state_dict())
    state["layers.2.bias"] = state["layers.2.bias"][:-1]
    assert native_network(state) is None


def with_nan(module, parameter, value):
    with torch.no_grad():
        module.get_parameter(parameter).view(-1)[-1] = value
    return module


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            lambda: with_nan(hazard_model(), "tables.weight", float("nan")),
            "tables.weight must be finite",
        ),
        (
            lambda: with_nan(hazard_model(), "layers.4.bias", float("inf")),
            "layers.4.bias must be finite",
        ),
        (lambda: with_nan(Shallow(), "layer.weight", float("nan")), "layer.weight must be finite"),
        (lambda: Shallow(width=WIDTH - 1), "model 'caching': forward failed: "),
        (lambda: hazard_model(width=WIDTH + 1), "model 'caching': forward failed: "),
        (lambda: hazard_model(outputs=3), r"expected float32 of shape \(296, 4\), got .*3\)"),
        (lambda: Shallow(outputs=5), r"expected float32 of shape \(296, 4\), got .*5\)"),
        (lambda: Shallow(scale=float("nan")), "expected probabilities"),
        (lambda: Shallow(scale=3.0), "expected probabilities"),
        (lambda: Shallow(scale=-1.0), "expected probabilities"),
        (lambda: Shallow().double(), "model 'caching': forward failed: "),
        (lambda: b"noise", "model 'caching': torch cannot load it"),
    ],
)
def test_load_network_invalid_model_raises(module, message):
    model = module()
    with pytest.raises(ValueError, match=f"/policy: .*{message}"):
        load(model if isinstance(model, bytes) else model.eval())


def test_load_network_truncated_archive_raises():
    archive = compile_module(hazard_model())
    for size in range(0, len(archive) - 1, len(archive) // 40):
        with pytest.raises(ValueError, match="/policy: model 'caching': torch cannot load it"):
            load(archive[:size])


def test_load_network_archive_without_code_or_weights_raises():
    archive = zipfile.ZipFile(io.BytesIO(compile_module(hazard_model())))
    for left_out in ("code", "data"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as partial:
            for name in archive.namelist():
                if left_out not in name.split("/")[1]:
                    partial.writestr(name, archive.read(name))
        with pytest.raises(ValueError, match="/policy: model 'caching': torch cannot load it"):
            load(buffer.getvalue())


@pytest.mark.parametrize(
    "examples",
    [
        None,
        EXAMPLES[:, :-1],
        EXAMPLES[0],
        EXAMPLES.astype(np.float64),
        EXAMPLES[:0],
        np.full_like(EXAMPLES, np.inf),
    ],
)
def test_load_network_invalid_examples_raise(examples):
    arrays = {} if examples is None else {"caching": examples}
    directory = PolicyDirectory(Path("/policy"), None, {}, arrays)
    with pytest.raises(ValueError, match="/policy: array 'caching': expected "):
        load_network(directory, "caching", width=WIDTH, outputs=OUTPUTS)


def test_simulator_network_failure_raises():
    def fail(features):
        raise ValueError("no answer")

    model = LearnedModel(
        Network(fail, features=WIDTH, outputs=1),
        intervals=[32],
        horizons=[32],
        eviction_ages=[(1, 1.0)],
    )
    simulator = Simulator(model, 100, 1000)
    with pytest.raises(RuntimeError, match="no answer"):
        simulator.run(np.arange(1000, dtype=np.uint64))
