"""Session: what every command shares: the desk's folder, how to print, the store when it is needed."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shareasm.desk import Desk
    from shareasm.model import Campaign, Clock
    from shareasm.store import Store


@dataclass(slots=True)
class Session:
    """One run of one command."""

    folder: Path
    as_json: bool = False
    quiet: bool = False
    debug: bool = False
    _desk: Desk | None = None
    _store: Store | None = field(default=None, repr=False)

    @property
    def desk(self) -> Desk:
        """Read desk.toml, once."""
        from shareasm.desk import read_desk

        if self._desk is None:
            self._desk = read_desk(self.folder)
        return self._desk

    @property
    def store(self) -> Store:
        """Open the database, once; its tables are brought up to date."""
        from shareasm.store import open_store

        if self._store is None:
            self._store = open_store(self.desk.database)
        return self._store

    @property
    def clock(self) -> Clock:
        """Return the clock by which the desk acts."""
        from shareasm.model import WorldClock

        return WorldClock(self.store.database.clock_offset())

    @property
    def desk_now(self) -> datetime:
        """Return the desk's time: the world's, or in a rehearsal the rehearsal's."""
        pulse = self.store.workers.pulse(self.clock.now())
        return pulse.desk_now if pulse.rehearsal and pulse.desk_now is not None else self.clock.now()

    def campaign(self, name: str | None) -> Campaign:
        """Return the campaign of this name; the only one when none is named. Raise PlanError otherwise."""
        from shareasm.errors import PlanError

        if name is not None:
            return self.store.campaigns.get(self.folder_of(name))
        found = self.store.campaigns.all()
        if len(found) == 1:
            return found[0]
        listed = ", ".join(c.folder for c in found)
        raise PlanError("Which campaign?", f"Name one of {listed}." if listed else "Run `shareasm plan sync` first.")

    def folder_of(self, name: str) -> str:
        """Return the folder that a campaign's folder, its path or its name means; else the word itself."""
        from shareasm.plan.files import PLANS

        folder = Path(name).name
        if (self.desk.folder / PLANS / folder / "campaign.toml").is_file():
            return folder
        words = name.strip().casefold()
        known = [c.folder for c in self.store.campaigns.all() if words in {c.name.casefold(), c.folder.casefold()}]
        return known[0] if known else folder or name

    def say(self, words: str = "") -> None:
        """Print a result for a person; nothing where the data goes out as JSON."""
        if not self.as_json:
            click.echo(words)

    def tell(self, words: str) -> None:
        """Print progress on the error stream, unless quiet."""
        if not self.quiet:
            click.echo(words, err=True)

    def data(self, value: Any) -> None:
        """Print data as JSON."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table whose columns are as wide as they need; foreign text loses its control characters."""
        cells = [[_cell(value) for value in row] for row in rows]
        widths = [max(len(head), *(len(row[i]) for row in cells), 0) for i, head in enumerate(heads)]
        click.echo("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip())
        for row in cells:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def progress(self) -> Progress:
        """Return how long work says how far it is."""
        return Progress(self)

    def close(self) -> None:
        """Close the database."""
        if self._store is not None:
            self._store.close()
            self._store = None


class Progress:
    """How far long work is: one line that is written anew on a terminal, a line every few seconds elsewhere."""

    def __init__(self, session: Session) -> None:
        self._quiet = session.quiet
        self._watched = sys.stderr.isatty()
        self._told = time.monotonic()
        self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._width:
            click.echo(err=True)

    def tell(self, words: Callable[[], str]) -> None:
        """Say it when it is time; the words are asked for only then."""
        now = time.monotonic()
        if self._quiet or now - self._told < (0.2 if self._watched else 5.0):
            return
        self._told = now
        line = words()
        if self._watched:
            click.echo(f"\r{line.ljust(self._width)}", nl=False, err=True)
            self._width = len(line)
        else:
            click.echo(line, err=True)


def rfc3339(moment: datetime | None) -> str | None:
    """Return a moment as JSON has it: RFC 3339 in UTC."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def shown(words: str, width: int = 60) -> str:
    """Return foreign or long text as one short line that cannot steer a terminal."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "�" for c in words).split())
    return line if len(line) <= width else line[: width - 1] + "…"


def number_of(n: int, thing: str) -> str:
    """Return so many things in words: “1 post”, “2 posts”, “3 deliveries”."""
    if n == 1:
        return f"1 {thing}"
    return f"{n:,} {thing[:-1]}ies" if thing.endswith("y") else f"{n:,} {thing}s"


def _cell(value: object) -> str:
    return "–" if value is None else shown(str(value), 80)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return rfc3339(value)
    raise TypeError(f"{type(value).__name__} is not plain data")
