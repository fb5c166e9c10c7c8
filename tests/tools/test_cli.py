"""The command line: output, one-line errors, exit status, removal of temporary files."""

import json
import os
import re
import sys

import pytest
from replay_cases import run

from tieralloc import TieredStore
from tieralloc.tools.simulate import simulate
from tieralloc.trace import Trace, generate, read, write


def test_simulate_prints_the_simulated_miss_ratios(path, capsys):
    fractions = (0.01, 0.05, 0.5)
    status = run("simulate", path, "--policy", "lru,opt", "--fast-fraction", "1%,0.05,5e-1")
    assert status == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("At a fast fraction of 5%, ")
    assert "\nsmall: " in printed.out
    for record in simulate(read(path), ["lru", "opt"], fractions):
        line = next(line for line in printed.out.splitlines() if line.startswith(record["policy"]))
        assert f"{record['miss_ratio']:.4f}" in line
    assert printed.err == ""


def test_simulate_batch_size_matches_function(path, tmp_path, capsys):
    file = tmp_path / "counts.json"
    arguments = ("--policy", "lru,s3fifo", "--fast-fraction", "0.05", "--json", str(file))
    assert run("simulate", path, *arguments, "--batch-size", "16") == 0
    assert json.loads(file.read_text()) == simulate(
        read(path), ["lru", "s3fifo"], [0.05], batch_size=16
    )
    assert run("simulate", path, "--batch-size", "0") != 0
    assert "--batch-size" in capsys.readouterr().err
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        simulate(read(path), ["lru"], [0.05], batch_size=0)


def test_simulate_writes_json_and_a_plot(path, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    json_path, plot_path = tmp_path / "counts.json", tmp_path / "plot.png"
    assert run("simulate", path, "--json", json_path, "--plot", plot_path) == 0
    expected = simulate(read(path), ["lru", "s3fifo", "opt"], [0.01, 0.05, 0.1, 0.2])
    assert json.loads(json_path.read_text()) == expected
    assert plot_path.read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().err == f"wrote {json_path}\nwrote {plot_path}\n"


def test_json_dash_prints_only_json(path, capsys):
    assert run("simulate", path, "--policy", "lru", "--seed", 3, "--json", "-") == 0
    assert {record["policy"] for record in json.loads(capsys.readouterr().out)} == {"lru"}


def test_count_from_zero_counts_all_lookups(path, capsys):
    assert run("simulate", path, "--count-from", 0, "--json", "-") == 0
    records = json.loads(capsys.readouterr().out)
    assert {record["lookups"] for record in records} == {read(path).num_lookups}


def test_replay_verify_prints_counts_and_leaves_no_file(path, disk, capsys):
    status = run(
        *("replay", path, "--policy", "sieve", "--fast-fraction", "10%", "--embedding-dim", 8),
        *("--batch-size", 16, "--threads", 2, "--verify", "--json", disk / "replay.json"),
        "--no-baselines",
    )
    printed = capsys.readouterr().out
    assert status == 0
    (record,) = json.loads((disk / "replay.json").read_text())
    assert (record["policy"], record["threads"], record["batch_size"]) == ("sieve", 2, 16)
    assert f"Compared every vector of {record['verified']:,} calls" in printed
    assert f"{record['miss_ratio']:.4f}" in printed
    assert [entry.name for entry in disk.iterdir()] == ["replay.json"]


def test_replay_by_rows_matches_simulate(path, disk, capsys):
    options = ("--policy", "s3fifo", "--fast-fraction", "0.1", "--json", "-")
    counts = ("lookups", "hits", "on_demand_fetches", "evictions")
    records = []
    for command in (("simulate", path), ("replay", path, "--no-baselines", "--batch-size", "row")):
        assert run(*command, *options) == 0
        (record,) = json.loads(capsys.readouterr().out)
        records.append([record[count] for count in counts])
    assert records[0] == records[1]


def test_replay_rates_prints_a_line_per_rate(path, disk, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--policy", "lru", "--fast-fraction", "10%", "--batch-size", 8, "--seconds", 0.1)
    json_path = disk / "rates.json"
    assert run("replay", path, *options, "--rate", "50,1e6", "--json", json_path) == 0
    printed = capsys.readouterr().out
    slow, fast = json.loads(json_path.read_text())
    assert [slow["offered_rate"], fast["offered_rate"]] == [50, 1e6]
    assert (slow["calls"], slow["loop"]) == (5, "open")
    assert "8 samples per call, 1 thread, open loop: Poisson arrivals" in printed
    warm_up = f"after {slow['warm_up_lookups']:,} that warm the fast tier"
    assert warm_up in " ".join(printed.split())
    first, second = printed.splitlines()[-2:]
    assert first.split()[:3] == ["lru", "10%", "50"]
    assert second.split()[:3] == ["lru", "10%", "1,000,000"]
    assert second.endswith("saturated")


def test_replay_auto_rates_start_with_the_closed_loop(path, disk, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    options = ("--policy", "lru", "--fast-fraction", "10%", "--batch-size", 8, "--seconds", 0.05)
    assert run("replay", path, *options, "--rate", "auto") == 0
    printed = capsys.readouterr().out
    assert "open loop: Poisson arrivals" in printed
    lines = printed[printed.index("---") :].splitlines()[1:]
    assert ["closed loop" in line for line in lines] == [True] + [False] * (len(lines) - 1)
    assert len(lines) >= 7


def test_generate_uses_every_option(tmp_path, capsys):
    parameters = {
        **{"num_tables": 2, "num_samples": 300, "mean_pooling_factor": [1.5, 3.0], "seed": 7},
        **{"session_length": 4.0, "session_reuse": 0.25, "topic_affinity": 0.5, "drift": 0.75},
        "num_embeddings": [900, 2000],
    }
    options = []
    for name, value in parameters.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        options += [f"--{name.replace('_', '-')}", text]
    out = tmp_path / "trace.npz"
    assert run("generate", "--out", out, *options) == 0
    expected, written = generate(**parameters), read(out)
    assert (written.indices == expected.indices).all()
    assert (written.lengths == expected.lengths).all()
    assert f"{expected.num_lookups:,} lookups" in capsys.readouterr().out


def test_train_output_directory_is_a_policy_of_simulate(path, tmp_path, capsys):
    pytest.importorskip("torch")
    directory, fractions = tmp_path / "trained", ("--fast-fraction", "5%,10%")
    assert run("train", path, "--out", directory, "--epochs", 1, *fractions) == 0
    printed = capsys.readouterr().out
    assert "trained on the first" in printed
    for line in ("lru", "opt", "caching"):
        assert len(re.search(rf"^{line}  (.*)$", printed, re.MULTILINE)[1].split()) == 2
    learned = f"recmg:{directory}"
    assert f"--policy lru,{learned}" in printed
    assert run("simulate", path, "--policy", f"{learned},lru", *fractions, "--json", "-") == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["policy"] for record in records] == ["recmg"] * 2 + ["lru"] * 2
    assert run("simulate", path, "--policy", learned, "--count-from", 0.4) == 0
    assert "recmg: its training accesses include counted accesses" in capsys.readouterr().err


def test_train_serves_the_next_tenth_and_prints_gain_and_cost(path, tmp_path, disk, capsys):
    pytest.importorskip("torch")
    directory = tmp_path / "trained"
    arguments = ("train", path, "--out", directory, "--epochs", 1, "--fast-fraction", "10%")
    assert run(*arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    trace = read(path)
    begin = trace.sample_of_access(trace.num_lookups // 2)
    counted = trace.samples(begin, begin + 60).num_lookups
    assert f"Served, the next {counted:,} lookups: recmg against " in printed
    assert re.search(
        r"it takes [\d.]+ times the DRAM and [\d.]+ µs of CPU time per lookup", printed
    )
    assert run(*arguments) == 1
    assert f"{directory}/manifest.json: exists already; use --force" in capsys.readouterr().err
    assert run(*arguments, "--force", "--until", 1, "--no-serve") == 0
    assert "Served" not in capsys.readouterr().out
    assert not list(disk.iterdir())


def test_train_on_whole_trace_names_the_seen_part(path, tmp_path, disk, capsys):
    pytest.importorskip("torch")
    assert run("train", path, "--out", tmp_path / "out", "--epochs", 1, "--until", 1) == 0
    assert "lookups, which training has seen: recmg against" in " ".join(
        capsys.readouterr().out.split()
    )


def test_policy_of_other_tables_is_the_same_error(path, tmp_path, disk, capsys):
    pytest.importorskip("torch")
    other = tmp_path / "other.npz"
    trace = read(path)
    renamed = Trace.from_lengths(
        trace.indices, trace.lengths, ["x", "y", "z"], trace.num_embeddings.tolist(), "other"
    )
    write(renamed, other)
    directory = tmp_path / "trained"
    assert run("train", other, "--out", directory, "--epochs", 1, "--no-serve") == 0
    capsys.readouterr()
    errors = []
    for command in ("simulate", "replay"):
        assert run(command, path, "--policy", f"recmg:{directory}") == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        errors.append(printed.err)
    assert errors[0] == errors[1]
    assert f"{directory}: expected a table 'x' of" in errors[0]
    assert not list(disk.iterdir())


@pytest.mark.parametrize("command", ["simulate", "replay"])
def test_fast_bytes_is_the_dram_of_the_tables(path, disk, capsys, command):
    options = ("--policy", "lru,s3fifo", "--fast-bytes", "32KiB,64KiB", "--embedding-dim", 32)
    extra = ("--no-baselines",) if command == "replay" else ()
    assert run(command, path, *options, *extra, "--json", "-") == 0
    records = json.loads(capsys.readouterr().out)
    trace = read(path)
    expected = []
    for size in ("32KiB", "64KiB"):
        rows = []
        for policy in ("lru", "s3fifo"):
            with TieredStore(disk / policy, mode="w", fast_bytes=size, policy=policy) as store:
                for name, count in zip(trace.table_names, trace.num_embeddings, strict=True):
                    store.create_table(name, count, 32, resident=False)
                rows.append(store.stats().fast_rows)
        expected.append(min(rows))
    assert 0 < expected[0] < expected[1]
    assert [record["fast_rows"] for record in records] == expected * 2
    if command == "replay":
        for record, size in zip(records, (1 << 15, 1 << 16) * 2, strict=True):
            dram = record["dram"]
            parts = ("vector_bytes", "index_bytes", "metadata_bytes")
            assert sum(dram[part] for part in parts) <= size


def test_replay_prints_the_conclusion_first_and_baselines(path, disk, capsys):
    assert run("replay", path, "--policy", "lru", "--batch-size", 8) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("At a fast fraction of 5%, lru serves ")
    names = [line.split("  ")[0] for line in lines]
    for name in ("all in DRAM", "numpy.memmap", "Python LRU", "lru"):
        assert names.count(name) == 1


@pytest.mark.parametrize("command", ["simulate", "generate", "replay", "latency"])
def test_existing_output_is_replaced_only_with_force(path, tmp_path, disk, capsys, command):
    out = tmp_path / "out.npz"
    out.write_text("precious")
    arguments = {
        "generate": ("--out", out, "--num-samples", 10, "--num-tables", 1),
        "simulate": (path, "--policy", "lru", "--json", out),
        "replay": (path, "--policy", "lru", "--no-baselines", "--json", out),
        "latency": ("--bytes", "1MiB", "--repeats", 1, "--json", out),
    }[command]
    assert run(command, *arguments) == 1
    assert capsys.readouterr().err == (
        f"tieralloc: error: {out}: exists already; use --force to replace it\n"
    )
    assert out.read_text() == "precious"
    assert run(command, *arguments, "--force") == 0
    assert out.read_bytes() != b"precious"


def test_doctor_json_matches_text(tmp_path, capsys):
    assert run("doctor", tmp_path, "--json") == 0
    checks = json.loads(capsys.readouterr().out)
    assert run("doctor", tmp_path) == 0
    text = capsys.readouterr().out
    for check in checks:
        assert re.search(rf"^\[{check['status']}\] +{check['topic']} ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "required: COMMAND"),
        (["frob"], 2, "invalid choice: 'frob'"),
        (["simulate"], 2, "required: T"),
        (["simulate", "TRACE", "--policy", "lru,lur"], 2, "got 'lur'"),
        (["simulate", "TRACE", "--policy", ","], 2, "expected policies such as"),
        (["simulate", "TRACE", "--fast-fraction", "0"], 2, "expected above 0, at most 1, got 0"),
        (["simulate", "TRACE", "--fast-fraction", "2"], 2, "expected above 0, at most 1, got 2"),
        (["simulate", "TRACE", "--fast-fraction", "nan"], 2, "expected a finite number, got 'nan'"),
        (["simulate", "TRACE", "--fast-fraction", "five"], 2, "expected a number, got 'five'"),
        (["simulate", "TRACE", "--fast-fraction", "1e-9"], 2, "expected at least one of"),
        (["simulate", "TRACE", "--count-from", "1"], 2, "expected at least 0, below 1, got 1"),
        (["simulate", "TRACE", "--seed", "-1"], 2, "expected an integer from 0"),
        (["simulate", "/nowhere.npz"], 1, "/nowhere.npz: No such file"),
        (["simulate", "/"], 1, "/: Is a directory"),
        (["simulate", "EMPTY"], 2, "the file is empty; expected a trace"),
        (["simulate", "NOISE"], 2, "expected format npz, got other"),
        (["simulate", "TRACE", "--json", "/nowhere/f.json"], 1, "/nowhere: No such file"),
        (["simulate", "TRACE", "--json", "/"], 1, "/: Is a directory"),
        (["simulate", "TRACE", "--policy", "recmg"], 2, "recmg has no directory; expected"),
        (["simulate", "TRACE", "--policy", "recmg:/"], 2, "/: no manifest.json; expected"),
        (["simulate", "TRACE", "--policy", "recmg:/nowhere"], 1, "No such file"),
        (["train", "TRACE"], 2, "required: --out"),
        (["train", "TRACE", "--out", "OUT", "--policy", "lru"], 2, "invalid choice: 'lru'"),
        (["train", "TRACE", "--out", "OUT", "--until", "0"], 2, "until: expected above 0"),
        (["train", "TRACE", "--out", "EMPTY"], 1, "File exists"),
        (["simulate", "TRACE", "--plot", "f.xls"], 2, "f.xls: unknown image format"),
        (["replay", "TRACE", "--policy", "opt"], 2, "policy: opt needs future accesses"),
        (["replay", "TRACE", "--batch-size", "0"], 2, "expected at least 1, got 0"),
        (["replay", "TRACE", "--batch-size", "1.5"], 2, "2**63 - 1, got '1.5'"),
        (["replay", "TRACE", "--threads", "0"], 2, "expected at least 1, got 0"),
        (["replay", "TRACE", "--slow", "tape"], 2, "slow tier 'tape': unknown; expected file"),
        (["replay", "TRACE", "--engine", "steam"], 2, "invalid choice: 'steam'"),
        (["replay", "TRACE", "--promotion", "never"], 2, "--promotion: no effect with --slow file"),
        (["replay", "TRACE", "--slow", "numa:0", "--engine", "pread"], 2, "--engine: no effect"),
        (["replay", "TRACE", "--dir", "/nowhere"], 1, "/nowhere: No such file"),
        (["replay", "TRACE", "--embedding-dim", "5e6"], 2, "embedding_dim: expected 1 to"),
        (["replay", "TRACE", "--rate", "fast"], 2, "expected a number, got 'fast'"),
        (["replay", "TRACE", "--rate", "100,0"], 2, "expected above 0, got 0"),
        (["replay", "TRACE", "--rate", ","], 2, "expected rates such as"),
        (["replay", "TRACE", "--rate", "auto,5"], 2, "expected a number, got 'auto'"),
        (["replay", "TRACE", "--rate", "9", "--seconds", "0.1"], 2, "no call arrives in 0.1 s"),
        (["replay", "TRACE", "--rate", "9", "--seconds", "-1"], 2, "got -1.0"),
        (["replay", "TRACE", "--seconds", "1"], 2, "--seconds: no effect"),
        (["replay", "TRACE", "--repeats", "2"], 2, "--repeats: no effect"),
        (["replay", "TRACE", "--rate", "auto", "--verify"], 2, "verify: delays the callers"),
        (["generate"], 2, "required: --out"),
        (["generate", "--out", "t.xls"], 2, "t.xls: unknown trace format"),
        (["generate", "--out", "/nowhere/t.npz"], 1, "/nowhere: No such file"),
        (["generate", "--out", "t.npz", "--drift", "3"], 2, "drift: expected 0 to 1, got 3.0"),
        (["generate", "--out", "t.npz", "--num-embeddings", "5"], 2, "expected at least"),
        (["doctor", "/nowhere"], 1, "/nowhere: No such file"),
        (["doctor", "--rows", "0"], 2, "expected at least 1, got 0"),
        (["doctor", "--embedding-dim", "8"], 2, "--embedding-dim: no effect without --rows"),
        (["simulate", "TRACE", "--fast-bytes", "much"], 2, "got 'much'"),
        (["replay", "TRACE", "--fast-bytes", "1"], 2, "fast_bytes: too small for a row"),
        (["replay", "TRACE", "--fast-bytes", "1MiB", "--fast-fraction", "1"], 2, "not allowed"),
    ],
)
def test_main_bad_input_prints_one_line(path, disk, tmp_path, capsys, arguments, status, message):
    (tmp_path / "empty.npz").touch()
    (tmp_path / "noise.npz").write_bytes(os.urandom(1000))
    paths = {
        "TRACE": path,
        "EMPTY": tmp_path / "empty.npz",
        "NOISE": tmp_path / "noise.npz",
        "OUT": tmp_path / "out",
    }
    if any("recmg:" in argument or argument == "train" for argument in arguments):
        pytest.importorskip("torch")
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    assert run(*[paths.get(argument, argument) for argument in arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tieralloc: error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not list(disk.iterdir())


def test_plot_without_matplotlib_names_the_package(path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert run("simulate", path, "--plot", "f.png") == 1
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().err


def test_replay_wrong_vector_exits_1(path, disk, capsys, monkeypatch):
    monkeypatch.setattr("tieralloc.tools.replay.source.SourceRows.first_wrong", lambda *_: (0, 5))
    assert run("replay", path, "--verify") == 1
    assert "wrong vector in bag 5 of table 0" in capsys.readouterr().err


def test_replay_directory_in_memory_warns(path, capsys):
    if not os.access("/dev/shm", os.W_OK) or not os.path.ismount("/dev/shm"):
        pytest.skip("/dev/shm is missing or not writable")
    assert run("replay", path, "--policy", "lru", "--dir", "/dev/shm") == 0
    assert "/dev/shm: on tmpfs, which is DRAM" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "module"), [("compare", "paper"), ("report", "page")])
def test_former_command_names_its_replacement(command, module, capsys):
    assert run(command, "day.npz") == 2
    assert f"python -m bench.{module}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--admission", "always"], ["--admission=always"]])
def test_former_option_names_its_replacement(words, capsys):
    assert run("replay", "day.npz", *words) == 2
    assert "expected tieralloc replay --promotion" in capsys.readouterr().err
