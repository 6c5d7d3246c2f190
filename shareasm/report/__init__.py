"""Report: a campaign as files that leave the house, one file here per format."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path

from shareasm.errors import DeskError
from shareasm.store import Store
from shareasm.text import did_you_mean

FORMATS = {"html": "shareasm.report.html"}
"""The formats that are built and the file that writes each; it is imported when it is asked for."""

PLANNED = ("pdf", "xlsx", "pptx", "csv", "gexf")


def write_report(
    store: Store,
    campaign: str,
    folder: Path,
    now: datetime,
    formats: Sequence[str] = ("html",),
    also: Sequence[str] = (),
) -> list[Path]:
    """Write the report of a campaign into a folder in these formats and return its files; a file is whole or absent.

    `also` names further packages of measures. Raise DeskError for a format that there is not, before any is written.
    """
    modules = [import_module(_module(name)) for name in dict.fromkeys(formats)]
    folder.mkdir(parents=True, exist_ok=True)
    return [file for module in modules for file in module.write_report(store, campaign, folder, now, also=also)]


def _module(name: str) -> str:
    if name in FORMATS:
        return FORMATS[name]
    if name in PLANNED:
        raise DeskError(f"The format {name} is not built yet.", f"Take {', '.join(FORMATS)}.")
    raise DeskError(f"There is no format “{name}” for a report.", did_you_mean(name, FORMATS))
