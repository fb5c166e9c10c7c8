"""``python -m tieralloc`` is the ``tieralloc`` command."""

import sys

from tieralloc.tools.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
