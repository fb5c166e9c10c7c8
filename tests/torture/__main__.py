"""Run campaigns of random cases against the promises of a store; all of them by default."""

import argparse
import importlib
import sys
import time
import traceback
from pathlib import Path

from .campaign import Campaign, MissingError

CAMPAIGNS = ("kills", "switches", "power", "errors", "fuzz", "oracle", "ranks")


def main():
    """Run the campaigns one after the other; return 1 if one failed, 77 if one could not run."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("campaigns", nargs="*", metavar="campaign", help=", ".join(CAMPAIGNS))
    parser.add_argument("--minutes", type=float, default=5, help="time of all campaigns")
    parser.add_argument("--seed", type=int, help="random seed; by default the clock")
    parser.add_argument("--case", type=int, help="repeat this case only")
    parser.add_argument("--keep", type=Path, help="folder for the files of failures")
    options = parser.parse_args()
    names = options.campaigns or CAMPAIGNS
    for name in names:
        if name not in CAMPAIGNS:
            parser.error(f"campaign: expected one of {', '.join(CAMPAIGNS)}, got {name!r}")
    seed = int(time.time()) if options.seed is None else options.seed
    seconds = 60 * options.minutes / len(names)
    rows, failed, missing = [], False, False
    for name in names:
        campaign = Campaign(name, seed, seconds, options.case, options.keep)
        print(f"{name}: seed {seed}, {seconds:.0f} s", flush=True)
        try:
            importlib.import_module(f".{name}", __package__).run(campaign)
            failed |= campaign.failures.total() > 0
            rows.append((name, f"{time.monotonic() - campaign.started:.0f} s", campaign.figures()))
        except MissingError as error:
            missing = True
            rows.append((name, "skipped", str(error)))
        except Exception:
            failed = True
            traceback.print_exc()
            rows.append((name, "broken", f"{campaign.figures()}; see the traceback above"))
    print(f"\nsummary, seed {seed}")
    for name, state, figures in rows:
        print(f"{name:8}{state:>9}  {figures}")
    return 1 if failed else 77 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
