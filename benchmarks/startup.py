"""Start-up: what `shareasm --help` costs beside bare Python and a bare click."""

from __future__ import annotations

import sys

from benchmarks.rounds import interleaved, table

GOAL = 5.0


def run(rounds: int = 15) -> str:
    """Return the table of start-up costs."""
    python = [sys.executable, "-I"]
    figures = interleaved(
        {
            "bare Python": [*python, "-c", "pass"],
            "click alone": [*python, "-c", "import click"],
            "shareasm --help": [sys.executable, "-m", "shareasm", "--help"],
            "shareasm --version": [sys.executable, "-m", "shareasm", "--version"],
        },
        rounds,
    )
    bare = figures["bare Python"].median
    return table(
        "Command start-up",
        [
            (
                name,
                f"{figure.median * 1000:.0f} ms",
                f"{figure.median / bare:.1f} ×",
                f"≤ {GOAL:.0f} ×" if name.startswith("shareasm") else "",
                ("met" if figure.median / bare <= GOAL else "missed") if name.startswith("shareasm") else "",
            )
            for name, figure in figures.items()
        ],
    )
