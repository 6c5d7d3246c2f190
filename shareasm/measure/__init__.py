"""Measure: one function per number or table; its docstring is its definition.

A measure is a function marked with `@measure(version=…, unit=…)` in any file of this folder, or of a package that is
named in `also`. It is found by walking the files: a new one appears by itself in `shareasm measure`, in the tooltips
and in the report's "How we count".
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from shareasm.errors import DeskError
from shareasm.measure.coverage import Coverage, coverage_of
from shareasm.measure.reading import Definition, Figure, Reading
from shareasm.store import Store
from shareasm.text import did_you_mean

__all__ = ["Coverage", "Definition", "Reading", "Result", "as_json", "definitions", "measure", "take"]

FIRST = ("mentions", "contributors", "engagements", "reach", "timeline", "by_network", "by_language")
"""The order of the headline measures in every list; all others follow by name."""


@dataclass(frozen=True, slots=True)
class Result:
    """One measure as it was taken: a number, an object or a list of rows. A value that nobody knows is None."""

    name: str
    version: int
    value: Any
    unit: str
    coverage: Coverage
    definition: str
    as_of: datetime

    @property
    def at_version(self) -> str:
        """Return the name under which a figure is printed: two are compared only with equal versions."""
        return f"{self.name}@{self.version}"


@cache
def definitions(also: tuple[str, ...] = ()) -> Mapping[str, Definition]:
    """Return every measure by name, those of this folder and those of the packages named in `also`."""
    found = {definition.name: definition for package in (__name__, *also) for definition in _definitions_of(package)}
    return {name: found[name] for name in sorted(found, key=lambda name: (_place(name), name))}


def measure(
    store: Store, campaign: str, names: Sequence[str] | None = None, *, now: datetime, also: Sequence[str] = ()
) -> list[Result]:
    """Return the measures of a campaign at this moment, all of them or those that are named. Read-only.

    Raise PlanError when the desk knows no such campaign, DeskError when there is no such measure.
    """
    known = definitions(tuple(also))
    wanted = [_definition(known, name) for name in (known if names is None else names)]
    return take(Reading(store, campaign, now), wanted)


def take(reading: Reading, wanted: Sequence[Definition]) -> list[Result]:
    """Return these measures of one reading, all over the same coverage. Read-only."""
    coverage = coverage_of(reading)
    return [_result(reading, definition, coverage) for definition in wanted]


def as_json(campaign: str, results: Sequence[Result], now: datetime) -> dict[str, Any]:
    """Return the results as `shareasm measure --json` prints them, with times in RFC 3339 and UTC. Pure."""
    return {
        "campaign": campaign,
        "as_of": plain(now),
        "measures": {
            result.name: {
                "version": result.version,
                "value": plain(result.value),
                "unit": result.unit,
                "coverage": plain(result.coverage.as_json()),
                "definition": result.definition,
            }
            for result in results
        },
    }


def plain(value: object) -> Any:
    """Return the value with every moment as RFC 3339 text in UTC. Pure."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def _result(reading: Reading, definition: Definition, coverage: Coverage) -> Result:
    taken = definition.take(reading)
    figure = taken if isinstance(taken, Figure) else Figure(taken)
    return Result(
        definition.name, definition.version, figure.value, definition.unit, coverage.and_of(figure.words),
        definition.words, reading.now,
    )  # fmt: skip


def _definition(known: Mapping[str, Definition], name: str) -> Definition:
    if name not in known:
        raise DeskError(f"There is no measure “{name}”.", did_you_mean(name, known))
    return known[name]


def _definitions_of(package: str) -> Iterator[Definition]:
    for module in _modules(import_module(package)):
        for value in vars(module).values():
            definition = getattr(value, "measure", None)
            if isinstance(definition, Definition) and definition.take.__module__ == module.__name__:
                yield definition


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield import_module(f"{package.__name__}.{found.name}")


def _place(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)
