"""Listening: collect, import, measure and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shareasm.cli.session import Session

if TYPE_CHECKING:
    from datetime import datetime

    from shareasm.collect import Listener
    from shareasm.model import Campaign, Tally
    from shareasm.worker import Worker


@click.command("collect")
@click.argument("campaign")
@click.option("--once", is_flag=True, help="One sweep of every source, then stop.")
@click.option("--since", help="Read again from this moment (a date, or a date and time with its zone).")
@click.pass_obj
def collect_command(session: Session, campaign: str, once: bool, since: str | None) -> int:
    """Collect a campaign's conversation from every source, until stopped."""
    from dataclasses import replace

    from shareasm.worker import Worker

    found = session.campaign(campaign)
    if since is not None:
        found = replace(found, start=_moment(since, found.time_zone))
    worker = Worker(session.desk, session.store, session.clock)
    listeners = worker.listeners([found])
    if not listeners:
        session.tell("There is no source to collect from. Add [[listen]] to desk.toml.")
        return 1
    for listener in listeners if since is not None else []:
        _hold(session, listener)
        session.store.sources.rewind(listener.source_id)
    return _sweep(session, found, listeners) if once else _listen(session, found, worker)


def _listen(session: Session, campaign: Campaign, worker: Worker) -> int:
    """Listen at every place until stopped, or until no source is left that can be read."""
    from shareasm.cli.running import log_to_stderr, until_stopped
    from shareasm.worker import Listening

    log_to_stderr(session)
    listening = Listening(worker, lambda: [campaign])
    with until_stopped(worker.stopping) as stopped:
        listening.keep_up()
        session.tell(f"Collecting {campaign.name} from {len(session.desk.sources())} sources. Ctrl-C stops.")
        while not stopped.wait(1.0) and not listening.is_idle():
            listening.keep_up()
        worker.stopping.set()
        listening.join()
        return 0 if stopped() else 1


def _sweep(session: Session, campaign: Campaign, listeners: list[Listener]) -> int:
    rows = [_swept(session, listener) for listener in listeners]
    if session.as_json:
        session.data({"campaign": campaign.folder, "sources": rows})
    for row in rows:
        told = row["error"] or f"{row['new']} new, {row['changed']} changed, {row['known']} known."
        session.say(f"{row['network']} {row['server']}: {told}")
    return 1 if any(row["error"] for row in rows) else 0


def _swept(session: Session, listener: Listener) -> dict[str, Any]:
    """Return what one sweep of a source brought; a source that cannot be read is an error in its row."""
    from shareasm import collect
    from shareasm.errors import NetworkError, StateError
    from shareasm.model import Tally

    tally, error = Tally(), None
    try:
        _hold(session, listener)
        tally = collect.sweep(listener)
    except (NetworkError, StateError) as fault:
        error = str(fault)
    finally:
        session.store.sources.release(listener.source_id, listener.owner)
    return {"network": listener.source.network, "server": listener.source.server, "error": error, **_tally(tally)}


def _hold(session: Session, listener: Listener) -> None:
    """Take the source for us. Raise StateError while another collector, the worker, reads it."""
    from shareasm.collect import LEASE
    from shareasm.errors import StateError

    now = listener.clock.now()
    if not session.store.sources.lease(listener.source_id, listener.owner, now, now + LEASE):
        raise StateError(
            f"The worker collects from {listener.source.network} {listener.source.server} already.",
            "What it has is in the desk; stop it to read anew.",
        )


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
    with session.progress() as progress:
        done = collect.import_files(
            session.store, found, files, clock=session.clock, own_handles=own_handles(session.desk),
            format_name=format_name, progress=lambda *at: progress.tell(lambda: _share(*at)),
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
        session.say(f"Coverage: {results[0].coverage.words}")


@click.command("report")
@click.argument("campaign", required=False)
@click.option("--to", "folder", type=click.Path(path_type=Path), required=True, help="The folder to write into.")
@click.option("--format", "formats", default="html", help="html (pdf, xlsx, pptx, csv, gexf will come).")
@click.pass_obj
def report_command(session: Session, campaign: str | None, folder: Path, formats: str) -> None:
    """Write a campaign's report."""
    from shareasm import report

    found = session.campaign(campaign)
    names = [name.strip() for name in formats.split(",") if name.strip()]
    written = report.write_report(session.store, found.folder, folder, session.desk_now, names)
    if session.as_json:
        session.data({"campaign": found.folder, "files": [str(path) for path in written]})
    for path in written:
        session.say(f"Wrote {path}")


def _share(file: Path, done: int, size: int) -> str:
    return f"{file.name}: " + (
        f"{min(100, 100 * done // size)} %" if size and done <= size else f"{done // 1_000_000} MB"
    )


def _tally(tally: Tally) -> dict[str, int]:
    return {name: getattr(tally, name) for name in ("read", "new", "known", "changed", "refused")}


def _moment(typed: str, zone: str) -> datetime:
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
