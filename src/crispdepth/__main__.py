"""``python -m crispdepth``: the same as the ``crispdepth`` command."""

import sys

from crispdepth.cli.main import main

sys.exit(main())
