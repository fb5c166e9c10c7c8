"""The command line as a process: imports, signals, pipes, removal of temporary files."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from replay_cases import run

from tieralloc import File, TieredStore
from tieralloc.tools.cli.main import _COMMANDS, make_parser
from tieralloc.tools.simulate import policy_names
from tieralloc.trace import generate, write


def restore_signals():
    """Restore signals that are ignored in background jobs and under nohup."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tieralloc", *map(str, arguments)],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore_signals,
        **options,
    )


@pytest.mark.parametrize("command", _COMMANDS)
def test_help_examples_of_each_command_parse(command, capsys):
    assert run(command, "--help") == 0
    printed = capsys.readouterr().out
    assert f"examples:\n  tieralloc {command}" in printed
    for example in re.findall(r"^  tieralloc (.*)$", printed, re.MULTILINE):
        make_parser(example.split()).parse_args(example.split())


def test_module_prints_version():
    running = process("--version")
    assert re.fullmatch(r"tieralloc \d+\.\d+\.\d+\n", running.communicate()[0])
    assert running.returncode == 0


@pytest.mark.parametrize("command", ["", "replay"])
def test_help_imports_no_heavy_module(command):
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
    optional = {"tieralloc.policies.baselines", "tieralloc.policies.recmg_paper"}
    assert not modules & {"torch", "matplotlib", "tqdm", "scipy", *optional}


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGINT, 130, "tieralloc: interrupted\n"),
        (signal.SIGTERM, 143, ""),
        (signal.SIGHUP, 129, ""),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_replay_signal_exits_and_leaves_no_file(tmp_path, disk, number, status, message, threads):
    path = tmp_path / "long.npz"
    write(generate(num_samples=20_000, num_tables=2), path)
    running = process("replay", path, "--batch-size", "row", "--threads", threads)
    while not list(disk.glob("tieralloc-*")):  # not the probe of tempfile.gettempdir
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(number)
    assert running.communicate(timeout=60) == ("", message)
    assert running.returncode == status
    assert not list(disk.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--out", "out.npz", "--num-samples", "3000000"],
        ["simulate", "TRACE", "--fast-fraction", ",".join(f"{n}e-3" for n in range(10, 900))],
        ["train", "TRACE", "--out", "trained", "--epochs", "10000"],
        ["replay", "TRACE", "--batch-size", "row"],
        ["latency", "--repeats", "100000"],
        ["check", "TIER"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_interrupt_ends_each_command(tmp_path, disk, arguments):
    trace, tier = tmp_path / "long.npz", tmp_path / "emb.tier"
    if arguments[0] == "train":
        pytest.importorskip("torch")
    if "TRACE" in arguments:
        write(generate(num_samples=60_000, num_tables=4), trace)
    if "TIER" in arguments:
        sparse = File(tier, mode="w", reserve=False)
        with TieredStore(slow=sparse, fast_rows=100) as store:
            store.create_table("item", 400_000_000, 16)
    paths = {"TRACE": trace, "TIER": tier}
    folder = tmp_path / "run"
    folder.mkdir()
    words = [paths.get(argument, argument) for argument in arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = process(*words, cwd=folder, env=environment)
    time.sleep(1.5)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert errors.endswith("tieralloc: interrupted\n")
    assert running.returncode == 130
    assert not list(disk.iterdir())
    assert [path.name for path in folder.iterdir()] in ([], ["trained"])


def test_interrupt_in_exec_exits_with_130(tmp_path):
    code = """
import os, signal, sys
from tieralloc.tools.cli.interrupts import ending_on_signals
try:
    with ending_on_signals():
        exec("while True: os.kill(os.getpid(), signal.SIGINT)")
except KeyboardInterrupt:
    sys.exit(130)
"""
    (tmp_path / "interrupted.py").write_text(code)  # a module ends as the command does
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        preexec_fn=restore_signals,
        timeout=60,
    )
    assert done.returncode == 130


def test_replay_whose_file_is_deleted_exits_with_1(tmp_path, disk):
    path = tmp_path / "long.npz"
    write(generate(num_samples=20_000, num_tables=2), path)
    running = process("replay", path, "--batch-size", "row")
    while not (files := list(disk.glob("tieralloc-*/slow.tier"))):
        assert running.poll() is None
        time.sleep(0.01)
    files[0].unlink()
    output, errors = running.communicate(timeout=60)
    assert (output, running.returncode) == ("", 1)
    assert errors.startswith(f"tieralloc: error: {files[0]}: ")
    assert not list(disk.iterdir())


def test_simulate_closed_pipe_prints_no_error(path):
    running = process("simulate", path, "--policy", ",".join(policy_names()))
    running.stdout.close()
    assert running.stderr.read() == ""
    assert running.wait() == 1


def test_simulate_full_output_prints_an_error(path):
    with open("/dev/full", "w") as full:
        running = process("simulate", path, stdout=full)
        assert running.communicate()[1] == "tieralloc: error: No space left on device\n"
    assert running.returncode == 1
