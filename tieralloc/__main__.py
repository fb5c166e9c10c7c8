"""``python -m tieralloc`` is the ``tieralloc`` command."""

import sys

from tieralloc.cli import main

if __name__ == "__main__":
    sys.exit(main())
