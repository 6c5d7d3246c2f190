"""`make bench`: every table, one after the other, with the machine they were measured on."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime

from benchmarks import ingest, startup


def main() -> None:
    """Print the tables; name some of them to print only these."""
    tables = {"startup": startup.run, "ingest": ingest.run}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, {datetime.now(UTC):%d %B %Y}\n")  # noqa: T201
    for name in sys.argv[1:] or tables:
        print(tables[name]())  # noqa: T201


if __name__ == "__main__":
    main()
