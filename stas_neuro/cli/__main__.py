"""``python -m stas_neuro.cli``: the same program, for launchers that start a module (torchrun)."""

import sys

from stas_neuro.cli import main

if __name__ == "__main__":
    sys.exit(main())
