"""Trainings of all policies: what they depend on, interruptions, and tables of other traces."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from paper_support import hot_and_cold

torch = pytest.importorskip("torch")

from tieralloc.policies.registry import learned_names, trainer  # noqa: E402

from tieralloc.policy.directory import read_policy  # noqa: E402
from tieralloc.policy.registry import load_policy  # noqa: E402
from tieralloc.policy.scripted import load_module  # noqa: E402
from tieralloc.tools.simulate import simulate  # noqa: E402

TRACE = hot_and_cold(800)
SMALL = {"fast_fractions": [0.1], "epochs": 3, "seed": 1}


@pytest.fixture(scope="module", params=learned_names())
def trained(request, tmp_path_factory):
    """Return the directory of an uninterrupted training; its name is that of the policy."""
    directory = tmp_path_factory.mktemp("policies") / request.param
    train(directory, progress=interrupting_at(None))
    num_reports[request.param] = len(reports)
    return directory


reports = []  # of the last training
num_reports = {}  # of a training that was not interrupted, by policy


def interrupting_at(number):
    """Return a progress bar that raises KeyboardInterrupt at a report; None: never."""
    reports.clear()

    @contextmanager
    def progress(what, total, unit):
        def report(done, state):
            if len(reports) == number:
                raise KeyboardInterrupt
            reports.append(done)

        yield report

    return progress


def train(directory, trace=TRACE, name=None, **options):
    return trainer(name or directory.name)(trace, directory, **{**SMALL, **options})


def check_same_results(one, other):
    """Check that two directories have the same metrics, settings and weights."""
    one, other = read_policy(one), read_policy(other)
    assert one.manifest.metrics == other.manifest.metrics
    assert one.manifest.settings == other.manifest.settings
    for name, data in one.models.items():
        states = [load_module(each, name).state_dict() for each in (data, other.models[name])]
        for weights, same in zip(*(state.values() for state in states), strict=True):
            assert torch.equal(weights, same), name


def test_training_ignores_accesses_after_until(trained, tmp_path):
    indices = TRACE.indices.copy()
    later = slice(400, 800)  # of the hot table
    indices[later] = hot_and_cold(800, seed=5).indices[later]
    manifest = train(tmp_path / trained.name, replace(TRACE, indices=indices))
    assert manifest.trace.fingerprint != read_policy(trained).manifest.trace.fingerprint
    check_same_results(trained, tmp_path / trained.name)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_interrupted_training_resumes_to_the_same_results(trained, tmp_path, share):
    directory = tmp_path / trained.name
    with pytest.raises(KeyboardInterrupt):
        train(directory, progress=interrupting_at(int(share * num_reports[trained.name])))
    with pytest.raises(ValueError, match="expected a policy directory after its training"):
        read_policy(directory)
    train(directory)
    check_same_results(trained, directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"until": 0}, "until: expected above 0"),
        ({"until": 0.01}, r"expected at least \d+ training accesses, got 40"),
        ({"fast_fractions": [2]}, "fast_fraction: .* got 2"),
    ],
)
@pytest.mark.parametrize("name", learned_names())
def test_training_invalid_argument_raises(name, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, name=name, **change)


def test_simulate_trace_of_other_tables_raises(trained):
    policy = load_policy(trained.name, str(trained))
    with pytest.raises(ValueError, match="'cold' of 3200 rows as table 1, got 'cold' of 400"):
        simulate(hot_and_cold(num_samples=100), ["lru", policy], [0.1])
