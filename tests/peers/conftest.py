"""Peers: tests over posts of other people, which lie beside the repository and never inside it.

Where the folder is not there, nothing of this folder is collected, and one line says so: no test pretends to have run.
No test id and no message may show a name or a text of these people: a failure here says where, and numbers alone.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"
NUMBERS_ALONE = re.compile(r"assert [-\d\s()\[\]{},.:=!<>]*(?:(?:None|True|False)[-\d\s()\[\]{},.:=!<>]*)*")

collect_ignore_glob = [] if DATA.is_dir() else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not DATA.is_dir():
        terminalreporter.write_line(f"tests/peers: not collected, because {DATA} is not there")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave out of a failure what pytest would show of the values: arguments, texts, records."""
    report = yield
    if report.failed and call.excinfo is not None:
        report.longrepr = told_without_texts(item.path, call.excinfo)
        report.sections = []
    return report


def told_without_texts(file: Path, failure: pytest.ExceptionInfo[Any]) -> str:
    entries = [(Path(entry.path), entry.lineno + 1) for entry in failure.traceback]
    places = [f"{path.name}:{line}" for path, line in entries if path.parent == file.parent]
    first = str(failure.value).split("\n", maxsplit=1)[0]
    words = first if NUMBERS_ALONE.fullmatch(first) else "(its words may be other people's and are not shown)"
    return f"{' ← '.join(reversed(places))}: {failure.typename} {words}"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of other people's records; its README.md holds the right answers."""
    return DATA
