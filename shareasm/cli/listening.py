"""Listening: collect, import, measure and report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shareasm.cli.session import Session

if TYPE_CHECKING:
    from shareasm.model import Tally


@click.command("collect")
@click.argument("campaign")
@click.option("--once", is_flag=True, help="One sweep of every source, then stop.")
@click.option("--since", help="Read again from this moment (a date, or a date and time with its zone).")
@click.pass_obj
def collect_command(session: Session, campaign: str, once: bool, since: str | None) -> int:
    """Collect a campaign's conversation from every source, until stopped."""
    import signal
    import threading
    from dataclasses import replace

    from shareasm import collect
    from shareasm.errors import NetworkError
    from shareasm.worker import Worker

    found = session.campaign(campaign)
    worker = Worker(session.desk, session.store, session.clock)
    listeners = worker.listeners([found])
    if not listeners:
        session.say("There is no source to collect from. Add [[listen]] to desk.toml.")
        return 1
    if since is not None:
        found = replace(found, start=_moment(since, found.time_zone))
        listeners = worker.listeners([found])
        for listener in listeners:
            session.store.sources.rewind(listener.source_id)
    if not once:
        signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
        signal.signal(signal.SIGINT, lambda *_: worker.stopping.set())
        threads = [
            threading.Thread(
                target=collect.listen_on, args=(one, worker.stopping.is_set, worker.stopping.wait), daemon=True
            )
            for one in listeners
        ]
        for thread in threads:
            thread.start()
        session.tell(f"Collecting {found.name} from {len(threads)} sources. Ctrl-C stops.")
        while not worker.stopping.wait(1.0) and any(thread.is_alive() for thread in threads):
            pass
        for thread in threads:
            thread.join(10)
        return 0
    rows: list[dict[str, Any]] = []
    for listener in listeners:
        row: dict[str, Any] = {"network": listener.source.network, "server": listener.source.server, "error": None}
        try:
            row |= _tally(collect.sweep(listener))
        except NetworkError as error:
            row["error"] = str(error)
        rows.append(row)
        session.store.sources.release(listener.source_id, worker.process.id)
    if session.as_json:
        session.data({"campaign": found.folder, "sources": rows})
    for row in rows:
        where = f"{row['network']} {row['server']}"
        session.say(
            f"{where}: {row['error']}" if row["error"] else
            f"{where}: {row['new']} new, {row['changed']} changed, {row['known']} known."
        )  # fmt: skip
    return 1 if any(row["error"] for row in rows) else 0


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--campaign", help="Whose conversation it is; needed when there are several.")
@click.option("--format", "format_name", help="The format, where the content alone does not tell.")
@click.pass_obj
def import_command(session: Session, files: tuple[Path, ...], campaign: str | None, format_name: str | None) -> int:
    """Take archives that another tool kept into a campaign's conversation. The same file twice changes nothing."""
    from shareasm import collect
    from shareasm.worker import own_handles

    found = session.campaign(campaign)
    with _Progress(session) as progress:
        done = collect.import_files(
            session.store, found, files, clock=session.clock, own_handles=own_handles(session.desk),
            format_name=format_name, progress=progress,
        )  # fmt: skip
    problems = [{"file": file, "line": line, "why": why} for file, line, why in done.problems]
    if session.as_json:
        session.data({"format": done.format, "files": done.files, **_tally(done.tally), "problems": problems})
    for problem in problems[:100]:
        session.say(f"{problem['file']}:{problem['line']}: {problem['why']}")
    if len(problems) > 100:
        session.say(f"… and {len(problems) - 100} more; `--json` lists all.")
    t = done.tally
    session.say(
        f"{done.format}: {t.read} read, {t.new} new, {t.known} known, {t.changed} changed, {t.refused} refused."
    )
    for counted in done.counted[-1:]:
        total = sum(one.posts for one in done.counted)
        session.say(f"The network itself counts {total} posts in {len(done.counted)} hours ({counted.network}).")
    return 1 if problems else 0


@click.command("measure")
@click.argument("campaign", required=False)
@click.argument("names", nargs=-1)
@click.pass_obj
def measure_command(session: Session, campaign: str | None, names: tuple[str, ...]) -> None:
    """Print measures with their definition, coverage and version."""
    from shareasm import measure

    found = session.campaign(campaign)
    results = measure.measure(session.store, found.folder, names or None, now=session.desk_now)
    if session.as_json:
        session.data(measure.as_json(found.folder, results, session.desk_now))
        return
    for result in results:
        session.say(f"{result.name}@{result.version}: {_words(result.value)} {result.unit}".rstrip())
        session.say(f"    {result.definition.splitlines()[0]}")
    if results:
        session.say(f"Coverage: {results[0].coverage['words']}")


@click.command("report")
@click.argument("campaign", required=False)
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
@click.option("--format", "formats", default="html", help="html (pdf, xlsx, pptx, csv, gexf will come).")
@click.pass_obj
def report_command(session: Session, campaign: str | None, folder: Path, formats: str) -> None:
    """Write a campaign's report."""
    from shareasm import report

    found = session.campaign(campaign)
    written: list[Path] = []
    for name in dict.fromkeys(part.strip() for part in formats.split(",") if part.strip()):
        written += report.writer(name)(session.store, found, folder, now=session.desk_now)
    if session.as_json:
        session.data({"campaign": found.folder, "files": [str(path) for path in written]})
    for path in written:
        session.say(f"Wrote {path}")


class _Progress:
    """A bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last = time.monotonic()
        self._bar_open = False

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar_open:
            click.echo(err=True)

    def __call__(self, file: Path, done: int, size: int) -> None:
        watched = self._session.on_terminal
        now = time.monotonic()
        if now - self._last < (0.2 if watched else 5.0):
            return
        self._last = now
        share = f"{min(100, 100 * done // size)} %" if size and done <= size else f"{done // 1_000_000} MB"
        if watched:
            self._bar_open = True
            click.echo(f"\r{file.name}: {share} ", nl=False, err=True)
        else:
            self._session.tell(f"{file.name}: {share}")


def _tally(tally: Tally) -> dict[str, int]:
    return {name: getattr(tally, name) for name in ("read", "new", "known", "changed", "refused")}


def _moment(typed: str, zone: str):
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo

    from shareasm.errors import ConfigError

    try:
        moment = datetime.fromisoformat(typed)
    except ValueError as error:
        raise ConfigError(f"“{typed}” is no moment.", "Write 2026-06-25 or 2026-06-25T14:00+02:00.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return f"{len(value)} rows"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
