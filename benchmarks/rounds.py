"""Rounds: contestants run in turn, each in a fresh process; the median of their CPU seconds is compared."""

from __future__ import annotations

import resource
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One contestant's CPU seconds over all rounds."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.seconds)


def interleaved(contestants: Mapping[str, Sequence[str]], rounds: int) -> dict[str, Figure]:
    """Run every contestant once per round, a b c, a b c, and return their CPU seconds (user + system, children too)."""
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, command in contestants.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own commands
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent[name].append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return {name: Figure(name, tuple(seconds)) for name, seconds in spent.items()}


def table(title: str, rows: Sequence[tuple[str, str, str, str, str]]) -> str:
    """Return rows of (what, measured, ratio, goal, met) as a Markdown table."""
    lines = [f"### {title}", "", "| what | CPU | ratio | goal | |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])
