"""The command as a user meets it: output, errors in one line, exit status, nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tieralloc._common import progress as _progress
from tieralloc.tools.cli.main import _COMMANDS, main, make_parser
from tieralloc.tools.simulate import policy_names, simulate
from tieralloc.trace import generate, read, write


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "small.npz"
    write(generate(num_samples=600, num_tables=3), path)
    return str(path)


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """Where slow tiers go by default."""
    directory = tmp_path / "disk"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    return directory


def run(*arguments):
    """Exit status; argparse ends the process where a command returns."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as ended:
        return ended.code


def test_simulate_prints_what_the_simulator_counts(path, capsys):
    fractions = (0.01, 0.05, 0.5)
    status = run("simulate", path, "--policy", "lru,opt", "--fast-fraction", "1%,0.05,5e-1")
    assert status == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("small: ")
    for record in simulate(read(path), ["lru", "opt"], fractions):
        line = next(line for line in printed.out.splitlines() if line.startswith(record["policy"]))
        assert f"{record['miss_ratio']:.4f}" in line
    assert printed.err == ""


def test_simulate_by_calls_counts_as_the_simulator_does(path, tmp_path, capsys):
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


def test_json_to_stdout_is_json_alone(path, capsys):
    assert run("simulate", path, "--policy", "lru", "--seed", 3, "--json", "-") == 0
    assert {record["policy"] for record in json.loads(capsys.readouterr().out)} == {"lru"}


def test_count_from_is_passed_on(path, capsys):
    assert run("simulate", path, "--count-from", 0, "--json", "-") == 0
    records = json.loads(capsys.readouterr().out)
    assert {record["lookups"] for record in records} == {read(path).num_lookups}


def test_replay_verifies_and_leaves_nothing(path, disk, capsys):
    status = run(
        *("replay", path, "--policy", "sieve", "--fast-fraction", "10%", "--embedding-dim", 8),
        *("--batch-size", 16, "--threads", 2, "--verify", "--json", disk / "replay.json"),
    )
    printed = capsys.readouterr().out
    assert status == 0
    (record,) = json.loads((disk / "replay.json").read_text())
    assert (record["policy"], record["threads"], record["batch_size"]) == ("sieve", 2, 16)
    assert f"Every vector of {record['verified']:,} calls" in printed
    assert f"{record['on_demand_fetches']:,}" in printed
    assert [entry.name for entry in disk.iterdir()] == ["replay.json"]


def test_replay_by_rows_agrees_with_simulate(path, disk, capsys):
    options = ("--policy", "s3fifo", "--fast-fraction", "0.1", "--json", "-")
    counts = ("lookups", "hits", "on_demand_fetches", "evictions")
    found = []
    for command in (("simulate", path), ("replay", path, "--batch-size", "row")):
        assert run(*command, *options) == 0
        (record,) = json.loads(capsys.readouterr().out)
        found.append([record[count] for count in counts])
    assert found[0] == found[1]


def test_replay_at_rates_tells_each_of_them(path, disk, capsys):
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


def test_replay_at_auto_rates_begins_with_the_closed_loop(path, disk, capsys):
    options = ("--policy", "lru", "--fast-fraction", "10%", "--batch-size", 8, "--seconds", 0.05)
    assert run("replay", path, *options, "--rate", "auto") == 0
    printed = capsys.readouterr().out
    assert "open loop: Poisson arrivals" in printed
    lines = printed[printed.index("---") :].splitlines()[1:]
    assert ["closed loop" in line for line in lines] == [True] + [False] * (len(lines) - 1)
    assert len(lines) >= 7


def test_generate_passes_every_knob_on(tmp_path, capsys):
    knobs = {
        **{"num_tables": 2, "num_samples": 300, "mean_pooling_factor": [1.5, 3.0], "seed": 7},
        **{"session_length": 4.0, "session_reuse": 0.25, "topic_affinity": 0.5, "drift": 0.75},
        "num_embeddings": [900, 2000],
    }
    options = []
    for knob, value in knobs.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        options += [f"--{knob.replace('_', '-')}", text]
    out = tmp_path / "trace.npz"
    assert run("generate", "--out", out, *options) == 0
    expected, found = generate(**knobs), read(out)
    assert (found.indices == expected.indices).all()
    assert (found.lengths == expected.lengths).all()
    assert f"{expected.num_lookups:,} lookups" in capsys.readouterr().out


def test_a_trained_policy_is_simulated_by_its_directory(path, tmp_path, capsys):
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
    assert "recmg was trained on accesses that are counted here" in capsys.readouterr().err


def test_doctor_prints_json_of_what_it_prints_as_text(tmp_path, capsys):
    assert run("doctor", tmp_path, "--json") == 0
    findings = json.loads(capsys.readouterr().out)
    assert run("doctor", tmp_path) == 0
    text = capsys.readouterr().out
    for finding in findings:
        assert re.search(rf"^\[{finding['status']}\] +{finding['topic']} ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ([], 2, "required: COMMAND"),
        (["frob"], 2, "invalid choice: 'frob'"),
        (["simulate"], 2, "required: T"),
        (["simulate", "TRACE", "--policy", "lru,lur"], 2, "got 'lur'"),
        (["simulate", "TRACE", "--policy", ","], 2, "names nothing"),
        (["simulate", "TRACE", "--fast-fraction", "0"], 2, "0 is out of range"),
        (["simulate", "TRACE", "--fast-fraction", "2"], 2, "2 is out of range"),
        (["simulate", "TRACE", "--fast-fraction", "nan"], 2, "'nan' is no finite number"),
        (["simulate", "TRACE", "--fast-fraction", "five"], 2, "'five' is no number"),
        (["simulate", "TRACE", "--fast-fraction", "1e-9"], 2, "expected at least one of"),
        (["simulate", "TRACE", "--count-from", "1"], 2, "1 is out of range"),
        (["simulate", "TRACE", "--seed", "-1"], 2, "'-1' is no whole number"),
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
        (["simulate", "TRACE", "--plot", "f.xls"], 2, "f.xls has a suffix of no image format"),
        (["replay", "TRACE", "--policy", "opt"], 2, "policy: opt needs future accesses"),
        (["replay", "TRACE", "--batch-size", "0"], 2, "0 is out of range"),
        (["replay", "TRACE", "--batch-size", "1.5"], 2, "'1.5' is no whole number"),
        (["replay", "TRACE", "--threads", "0"], 2, "0 is out of range"),
        (["replay", "TRACE", "--slow", "tape"], 2, "slow tier 'tape': unknown; expected file"),
        (["replay", "TRACE", "--engine", "steam"], 2, "invalid choice: 'steam'"),
        (["replay", "TRACE", "--promotion", "never"], 2, "--promotion: no effect with --slow file"),
        (["replay", "TRACE", "--slow", "numa:0", "--engine", "pread"], 2, "--engine: no effect"),
        (["replay", "TRACE", "--dir", "/nowhere"], 1, "/nowhere: No such file"),
        (["replay", "TRACE", "--embedding-dim", "5e6"], 2, "embedding_dim: expected 1 to"),
        (["replay", "TRACE", "--rate", "fast"], 2, "'fast' is no number"),
        (["replay", "TRACE", "--rate", "100,0"], 2, "0 is out of range, expected above 0"),
        (["replay", "TRACE", "--rate", ","], 2, "names nothing, expected rates"),
        (["replay", "TRACE", "--rate", "auto,5"], 2, "'auto' is no number"),
        (["replay", "TRACE", "--rate", "9", "--seconds", "0.1"], 2, "no call arrives in 0.1 s"),
        (
            ["replay", "TRACE", "--rate", "9", "--seconds", "-1"],
            2,
            "got -1.0",
        ),
        (["replay", "TRACE", "--seconds", "1"], 2, "which needs --rate"),
        (["replay", "TRACE", "--rate", "auto", "--verify"], 2, "verify: delays the callers"),
        (["generate"], 2, "required: --out"),
        (["generate", "--out", "t.xls"], 2, "t.xls has a suffix of no trace format"),
        (["generate", "--out", "/nowhere/t.npz"], 1, "/nowhere: No such file"),
        (["generate", "--out", "t.npz", "--drift", "3"], 2, "drift: expected 0 to 1, got 3.0"),
        (["generate", "--out", "t.npz", "--num-embeddings", "5"], 2, "expected at least"),
        (["doctor", "/nowhere"], 1, "/nowhere: No such file"),
    ],
)
def test_a_mistake_is_told_in_one_line(path, disk, tmp_path, capsys, arguments, status, told):
    (tmp_path / "empty.npz").touch()
    (tmp_path / "noise.npz").write_bytes(os.urandom(1000))
    stand_for = {
        "TRACE": path,
        "EMPTY": tmp_path / "empty.npz",
        "NOISE": tmp_path / "noise.npz",
        "OUT": tmp_path / "out",
    }
    if any("recmg:" in argument or argument == "train" for argument in arguments):
        pytest.importorskip("torch")
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    assert run(*[stand_for.get(argument, argument) for argument in arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("tieralloc: error: ")
    assert printed.err.count("\n") == 1
    assert told in printed.err
    assert not list(disk.iterdir())


def test_without_matplotlib_plot_says_what_to_install(path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert run("simulate", path, "--plot", "f.png") == 1
    assert "pip install 'tieralloc[plot]'" in capsys.readouterr().err


def test_a_wrong_vector_fails_the_command(path, disk, capsys, monkeypatch):
    monkeypatch.setattr("tieralloc.tools.replay.source.SourceRows.first_wrong", lambda *_: (0, 5))
    assert run("replay", path, "--verify") == 1
    assert "wrong vector in bag 5 of table 0" in capsys.readouterr().err


def test_memory_for_a_slow_tier_is_warned_of(path, capsys):
    if not os.access("/dev/shm", os.W_OK) or not os.path.ismount("/dev/shm"):
        pytest.skip("/dev/shm is not there to be written")
    assert run("replay", path, "--policy", "lru", "--dir", "/dev/shm") == 0
    assert "/dev/shm is on tmpfs, which is DRAM" in capsys.readouterr().err


# In processes of their own.


def hear_signals():
    """Whoever runs the tests in the background, or by nohup, has had these ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tieralloc", *map(str, arguments)],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
        **options,
    )


@pytest.mark.parametrize("command", _COMMANDS)
def test_each_command_has_help_with_examples(command, capsys):
    assert run(command, "--help") == 0
    printed = capsys.readouterr().out
    assert f"examples:\n  tieralloc {command}" in printed
    for example in re.findall(r"^  tieralloc (.*)$", printed, re.MULTILINE):
        make_parser(example.split()).parse_args(example.split())


def test_the_module_is_the_command():
    ended = process("--version")
    assert re.fullmatch(r"tieralloc \d+\.\d+\.\d+\n", ended.communicate()[0])
    assert ended.returncode == 0


@pytest.mark.parametrize("command", ["", "replay"])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys; from tieralloc.tools.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: print('modules:', *sys.modules)"
    )
    words = [word for word in (command, "--help") if word]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.partition("modules:")[2].split())
    assert "tieralloc.tools.cli.main" in modules
    studies = {"tieralloc.policies.baselines", "tieralloc.policies.recmg_paper"}
    assert not modules & {"torch", "matplotlib", "tqdm", "scipy", *studies}


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGINT, 130, "tieralloc: interrupted\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGHUP, 129, ""),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupted_replay_ends_at_once_and_leaves_nothing(
    tmp_path, disk, number, status, told, threads
):
    path = tmp_path / "long.npz"
    write(generate(num_samples=20_000, num_tables=2), path)
    running = process("replay", path, "--batch-size", "row", "--threads", threads)
    while not list(disk.iterdir()):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(number)
    assert running.communicate(timeout=60) == ("", told)
    assert running.returncode == status
    assert not list(disk.iterdir())


def test_a_reader_that_has_enough_is_no_error(path):
    running = process("simulate", path, "--policy", ",".join(policy_names()))
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() == 1


def test_an_output_that_takes_no_more_is_an_error(path):
    with open("/dev/full", "w") as full:
        running = process("simulate", path, stdout=full)
        assert running.communicate()[1] == "tieralloc: error: No space left on device\n"
    assert running.returncode == 1


# Progress.


class Terminal:
    """A stderr that somebody watches."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_bar_shows_what_takes_longer_than_a_second(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with _progress.bar("replaying", 100, "rows") as done:
        done(50)
        assert terminal.text == ""
    terminal.text = ""
    monkeypatch.setattr(_progress, "_DELAY", 1e-9)
    with _progress.bar("replaying", 100, "rows") as done:
        while terminal.text == "":  # tqdm draws ten times a second
            done(0)
            time.sleep(0.01)
        done(50)
        time.sleep(0.2)
        done(1)
    assert "replaying:  51%" in terminal.text


def test_a_narrated_bar_says_how_it_goes(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(_progress, "_DELAY", 1e-9)
    with _progress.narrated("training", 100, "chunks") as report:
        while "loss 0.5" not in terminal.text:
            report(0, "loss 0.5")
            time.sleep(0.01)
    assert "training:   0%" in terminal.text


def test_work_that_cannot_say_how_far_it_is_shows_its_time(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(_progress, "_DELAY", 0.01)
    with _progress.waiting("generating"):
        while "generating (00:00)" not in terminal.text:
            time.sleep(0.01)
    assert terminal.text.endswith("\r")


@pytest.mark.parametrize("absent", ["terminal", "tqdm"])
def test_without_a_terminal_or_tqdm_there_is_no_bar(monkeypatch, capsys, absent):
    if absent == "tqdm":
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(_progress, "_DELAY", 0)
    with _progress.bar("replaying", 100, "rows") as done, _progress.waiting("drawing"):
        done(50)
    with _progress.narrated("training", 100, "chunks") as report:
        report(50, "loss 0.5")
    shown = terminal.text if absent == "tqdm" else capsys.readouterr().err
    assert shown == ""
