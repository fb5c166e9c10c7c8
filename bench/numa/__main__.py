"""From which latency on a fast tier pays: emulated slow tiers, with a fast tier and without.

``python -m bench.numa`` trains recmg on the first half of a trace, serves the second half from
emulated memory, and writes ``bench/results/emulated.json``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.numa.emulated import EXTRA_NS, markdown, run
from bench.scenery import arguments
from bench.scenery.about import about
from bench.scenery.results import rounded, write_json
from bench.scenery.traces import FAST_FRACTIONS, choose_traces
from bench.scenery.trained import train
from tieralloc import trace

REPEATS = 3
GENERATED_SAMPLES = 20_000


def main(given: Sequence[str] | None = None) -> None:
    given = sys.argv[1:] if given is None else list(given)
    parser = arguments.make_parser("numa", __doc__)
    arguments.add_models(parser)
    arguments.add_show(parser)
    parser.add_argument("--fast-fraction", type=float, default=0.05, metavar="X")
    options = parser.parse_args(given)
    if options.show:
        print(markdown(arguments.kept_result(options, "emulated")))
        return
    quick, fraction = options.quick, options.fast_fraction
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        samples = 1000 if quick else GENERATED_SAMPLES
        paths = choose_traces(options.traces, directory, quick=quick, num_samples=samples)
        made = trace.read(paths[-1])
        if quick:
            policy, _ = train(made, "recmg", directory, fast_fractions=[fraction], epochs=1)
        else:
            policy, _ = train(made, "recmg", options.models, fast_fractions=FAST_FRACTIONS)
        records = run(
            made,
            ["lru", f"recmg:{policy}"],
            fraction,
            extra_ns=(20, 150) if quick else EXTRA_NS,
            repeats=1 if quick else REPEATS,
        )
    content = {
        **about(arguments.public_command("numa", given)),
        "trace": made.name,
        "fast_fraction": fraction,
        "emulated": True,
        "records": records,
    }
    print(markdown(rounded(content)))
    out = arguments.out_directory(options)
    if out is not None:
        write_json(out / "emulated.json", content)


if __name__ == "__main__":
    main()
