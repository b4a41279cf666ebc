"""``python -m tfa_perf``: the same as the ``tfa-perf`` command."""

import sys

from tfa_perf.cli import main

sys.exit(main())
