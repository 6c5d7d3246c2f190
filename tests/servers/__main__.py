"""`python -m tests.servers`: install what the tests need beside Python packages. A second run does nothing."""

import sys

from . import ServerError, bluesky, chromium

try:
    bluesky.install()
    chromium.install()
except ServerError as error:
    sys.exit(f"error: {error}")
