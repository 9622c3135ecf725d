"""``python -m convkit`` is the command ``convkit``."""

import sys

from convkit.cli import main

sys.exit(main())
