"""The break-even latency of a fast tier: emulated slow tiers, with a fast tier and without."""

import sys

from bench.numa.emulated import STUDY
from bench.policies.study import main

sys.exit(main(STUDY, __doc__))
