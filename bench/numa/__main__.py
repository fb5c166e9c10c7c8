"""What a policy must save to pay: emulated slow tiers, with a fast tier and without.

``python -m bench.numa`` trains recmg on the first half of a trace, serves the second half from
emulated memory, and writes ``bench/results/emulated.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.numa.emulated import EXTRA_NS, POLICIES, run, to_markdown
from tieralloc import trace
from tieralloc._common.files import replacing
from tieralloc._common.progress import bar
from tieralloc.tools.report import write_json

RESULTS = Path(__file__).parent.parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.numa", description=__doc__)
    parser.add_argument("--trace", default="../shared/traces/trivago.npz", metavar="T")
    parser.add_argument("--models", type=Path, default=Path("build/numa/recmg"), metavar="DIR")
    parser.add_argument("--fast-fraction", type=float, default=0.05, metavar="X")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--quick", action="store_true", help="few latencies, once: means nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "emulated", metavar="F")
    arguments = parser.parse_args()
    if Path(arguments.trace).exists():
        made = trace.read(arguments.trace)
    else:
        print(f"{arguments.trace} is not there: a generated trace instead", file=sys.stderr)
        made = trace.generate(num_samples=20_000)
    policies = list(POLICIES)
    if not arguments.models.exists():
        from tieralloc.policies.registry import trainer

        trainer("recmg")(made, arguments.models, [arguments.fast_fraction])
    policies.append(f"recmg:{arguments.models}")
    records = run(
        made,
        policies,
        arguments.fast_fraction,
        extra_ns=(20, 150) if arguments.quick else EXTRA_NS,
        repeats=1 if arguments.quick else arguments.repeats,
        progress=bar,
    )
    text = to_markdown(records)
    print(text)
    write_json(records, arguments.out.with_suffix(".json"))
    with replacing(arguments.out.with_suffix(".md")) as file:
        file.write(f"{text}\n".encode())


if __name__ == "__main__":
    main()
