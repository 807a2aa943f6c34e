"""``python -m duotrack`` is the command ``duotrack``; ``torchrun -m duotrack`` starts it once a process."""

import sys

from duotrack.cli import main

sys.exit(main())
