"""Stop early, with a clear line, on a Python that the pinned libraries do not support. Runs on any Python 3."""

import sys

OLDEST, NEWEST = (3, 11), (3, 13)

if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "error: this is Python %d.%d; Reprise needs Python %d.%d to %d.%d. Name one with `make report PYTHON=python3.11`."
        % (sys.version_info[:2] + OLDEST + NEWEST)
    )
