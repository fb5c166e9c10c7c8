"""The ``tieralloc`` command: its parser, and errors of one line.

Each subcommand is a module of this package with DESCRIPTION, EXAMPLES, `add_options` and
`run`. `main` imports only the module of the selected subcommand.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tieralloc import __version__
from tieralloc.errors import raise_renamed
from tieralloc.tools.cli.interrupts import INTERRUPTED, MESSAGE, ending_on_signals
from tieralloc.tools.replay.errors import VerificationError

_FAILED = 1
_BAD_INPUT = 2


_DESCRIPTION = """\
Embedding tables in two tiers: a file, and a small pool of DRAM in front of it.

Start with `tieralloc demo`. Exit status: 0 done, 1 failed (disk, memory, wrong vector),
2 bad input, 130 interrupted."""

#: The subcommands, and their lines in ``tieralloc --help``.
_COMMANDS = {
    "demo": "generate, train, replay and plot a small example",
    "generate": "write a synthetic trace",
    "simulate": "count the misses of a trace, without bytes",
    "plan": "recommend a budget and a policy for a trace, a device and targets",
    "train": "train a learned policy on a trace",
    "arrange": "learn which rows share pages of a table file, and write the file so",
    "replay": "serve a trace from a real store and measure it",
    "warm-up": "write the rows of a trace that a store begins with",
    "delta": "write the rows that differ between two checkpoints",
    "import": "write tables of safetensors and .npy files to a table file",
    "reshard": "write the table files of a group for another number of ranks",
    "latency": "measure the memory of each NUMA node",
    "check": "check the pages of a table file, and repair them from a checkpoint",
    "upgrade": "convert a table file of an older format",
    "doctor": "check this machine: NUMA nodes, huge pages, io_uring, disk",
}


class _Parser(argparse.ArgumentParser):
    """Parser with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(_BAD_INPUT, f"tieralloc: error: {message} (see {self.prog} --help)\n")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Formatter that keeps the lines of descriptions and examples, and aligns the options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, with the options of the subcommand in `argv`."""
    parser = _Parser(prog="tieralloc", description=_DESCRIPTION, formatter_class=_Formatter)
    parser.add_argument("--version", action="version", version=f"tieralloc {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    selected = next((word for word in argv if not word.startswith("-")), None)
    raise_renamed(ValueError, f"tieralloc {selected}")
    for word in argv:
        raise_renamed(ValueError, f"tieralloc {selected} {word.partition('=')[0]}")
    for name, summary in _COMMANDS.items():
        if name != selected:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"tieralloc.tools.cli.{name.replace('-', '_')}")
        examples = "\n".join(f"  {line}" for line in module.EXAMPLES.splitlines())
        command = commands.add_parser(
            name,
            help=summary,
            description=module.DESCRIPTION,
            epilog=f"examples:\n{examples}",
            formatter_class=_Formatter,
        )
        module.add_options(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its status: 0 done, 1 failed, 2 bad input, 130 interrupted."""
    command = ""
    try:
        with ending_on_signals():
            words = sys.argv[1:] if argv is None else argv
            arguments = make_parser(words).parse_args(words)
            command = arguments.command
            arguments.run(arguments)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(MESSAGE, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout closed the pipe: exit without a message.
        _discard_stdout()
        return _FAILED
    except OSError as error:
        _discard_stdout()
        return _fail(_describe(error, command), _FAILED)
    except (MemoryError, ImportError, VerificationError) as error:
        return _fail(str(error) or "out of memory", _FAILED)
    except ValueError as error:
        return _fail(str(error), _BAD_INPUT)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"tieralloc: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def _describe(error: OSError, command: str) -> str:
    text = error.strerror or str(error)
    if error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {text}"
    if error.errno == errno.ENOSPC and command in ("demo", "plan", "replay", "train"):
        text += " (use --dir to choose another disk)"
    return text


def _discard_stdout() -> None:
    """Redirect a stdout that fails to /dev/null, so that the interpreter's last flush succeeds."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
