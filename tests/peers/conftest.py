"""Peers: tests over posts of other people, which lie beside the repository and never inside it.

Where the folder is not there, nothing of this folder is collected, and one line says so: no test pretends to have run.
No test id and no message may show a name or a text of these people; counts alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"

collect_ignore_glob = [] if DATA.is_dir() else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not DATA.is_dir():
        terminalreporter.write_line(f"tests/peers: not collected, because {DATA} is not there")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of other people's records; its README.md holds the right answers."""
    return DATA
