"""``python -m stas_neuro``: the command line."""

import sys

from stas_neuro.cli import main

if __name__ == "__main__":
    sys.exit(main())
