"""``python -m dspex_lab``."""

import sys

from dspex_lab.cli import main

sys.exit(main())
