"""House: init, status and the database."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shareasm.cli.session import Session, rfc3339

if TYPE_CHECKING:
    from shareasm.model import Delivery

EXAMPLE = "asm-day-2015"
LATE_AFTER = timedelta(seconds=2)
WORTH_A_LOOK = timedelta(minutes=1)


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def init_command(session: Session, folder: Path | None) -> None:
    """Make a new desk: desk.toml, .env.example, an example campaign. Nothing that exists is touched."""
    target = folder or session.folder
    for path in make_desk(target):
        session.say(f"Wrote {path}")
    session.say("Next: `shareasm plan sync`, `shareasm check`, `shareasm plan approve --all --by YOU`, `shareasm up`.")


@click.command("status")
@click.pass_obj
def status_command(session: Session) -> int:
    """Say whether the worker lives, what is next, what is late or failed, how far each source is complete.

    Exit 1 when something needs a person.
    """
    state = _status(session)
    if session.as_json:
        session.data(state)
        return 1 if state["problems"] else 0
    seen = state["worker"]["seen_at"] or "never"
    session.say(f"worker: {'alive' if state['worker']['alive'] else 'not running'} (seen {seen})")
    session.say("deliveries: " + (", ".join(f"{n} {s}" for s, n in sorted(state["deliveries"].items())) or "none"))
    following = state["next"]
    session.say(f"next: {following['due']} {following['id']}" if following else "next: nothing is scheduled")
    for one in state["late"]:
        session.say(f"late: {one['id']} by {one['late_seconds']:g} s ({one['state']})")
    for source in state["sources"]:
        until = source["complete_until"] or "–"
        session.say(f"source: {source['network']} {source['server']} {source['state']}, complete until {until}")
        for gap in source["gaps"]:
            session.say(f"  gap: {gap['from'] or 'the start'} to {gap['to'] or 'now'}: {gap['why']}")
    for switch in state["switches"]:
        session.say(f"paused: {switch['scope']} {switch['key']} by {switch['by']}: {switch['reason']}")
    for problem in state["problems"]:
        session.say(f"problem: {problem}")
    return 1 if state["problems"] else 0


@click.group("db")
def db_command() -> None:
    """Look after the database."""


@db_command.command("upgrade")
@click.pass_obj
def upgrade_command(session: Session) -> None:
    """Bring the tables up to date. Every command does this by itself."""
    from shareasm.store.engine import Database
    from shareasm.store.migrations import upgrade

    database = Database(session.desk.database)
    try:
        applied = upgrade(database)
    finally:
        database.close()
    session.say(f"Applied {', '.join(reversed(applied))}." if applied else "The tables are up to date.")


@db_command.command("rebuild")
@click.argument("campaign", required=False)
@click.pass_obj
def rebuild_command(session: Session, campaign: str | None) -> int:
    """Count every rollup anew from the mentions, and say which rows differed: none should."""
    from shareasm.store.rollups import rebuild

    campaigns = [session.campaign(campaign)] if campaign else session.store.campaigns.all()
    result: dict[str, dict[str, int]] = {}
    for one in campaigns:
        session.tell(f"Counting {one.folder} anew …")
        result[one.folder] = rebuild(session.store.database, session.store.campaigns.id_of(one.folder))
    if session.as_json:
        session.data(result)
    for folder, tables in result.items():
        differing = {name: n for name, n in tables.items() if n}
        told = ", ".join(f"{name} {n} rows" for name, n in differing.items())
        session.say(f"{folder}: {'differed and was put right: ' + told if told else 'every rollup was right'}.")
    return 1 if any(n for tables in result.values() for n in tables.values()) else 0


def make_desk(folder: Path) -> list[Path]:
    """Write what a new desk needs and return what was written. Nothing that exists is touched."""
    from shareasm.desk import DESK_TOML, ENV_EXAMPLE
    from shareasm.plan.files import PLANS

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for name, words in (("desk.toml", DESK_TOML), (".env.example", ENV_EXAMPLE)):
        path = folder / name
        if not path.exists():
            path.write_text(words, encoding="utf-8")
            written.append(path)
    example = folder / PLANS / EXAMPLE
    if not example.exists():
        shutil.copytree(_example(), example)
        written.append(example)
    return written


def _example() -> Path:
    """Return the example campaign: beside the package in the repository, inside it when installed."""
    import shareasm

    package = Path(shareasm.__file__).parent
    inside = package / "example" / EXAMPLE
    return inside if inside.is_dir() else package.parent / "scheduled_posts" / EXAMPLE


def _status(session: Session) -> dict[str, Any]:
    store = session.store
    now = session.desk_now
    pulse = store.workers.pulse(session.clock.now())
    queue = store.queue.all()
    following = min((d for d in queue if d.state == "scheduled"), key=lambda d: (d.next_at, d.id), default=None)
    late = [d for d in queue if d.state in _ON_ITS_WAY and now - d.due_at > LATE_AFTER]
    return {
        "worker": {"alive": pulse.alive, "seen_at": rfc3339(pulse.seen_at), "rehearsal": pulse.rehearsal},
        "now": rfc3339(now),
        "deliveries": store.queue.counts(),
        "next": following and {
            "id": following.id, "account": following.account, "due": rfc3339(following.due_at),
            "text": following.frozen.text,
        },
        "late": [
            {
                "id": d.id, "state": str(d.state), "due": rfc3339(d.due_at), "reason": d.reason,
                "late_seconds": round((now - d.due_at).total_seconds(), 1),
            }
            for d in late
        ],
        "sources": [
            {
                "campaign": s.campaign, "network": s.network, "server": s.server, "hashtag": s.query, "state": s.state,
                "complete_until": rfc3339(s.complete_until), "lag_seconds": _lag(now, s.complete_until),
                "error": s.error,
                "gaps": [{"from": rfc3339(g.from_at), "to": rfc3339(g.to_at), "why": g.why} for g in s.gaps],
            }
            for s in store.sources.states()
        ],
        "switches": [
            {"scope": s.scope, "key": s.key, "by": s.by, "at": rfc3339(s.at), "reason": s.reason}
            for s in store.switches.on()
        ],
        "problems": _problems(session, pulse.alive, queue, late, now),
    }  # fmt: skip


def _lag(now: datetime, complete_until: datetime | None) -> int | None:
    return None if complete_until is None else max(0, round((now - complete_until).total_seconds()))


_ON_ITS_WAY = ("scheduled", "claimed", "sending", "unconfirmed")


def _problems(session: Session, alive: bool, queue: list[Delivery], late: list[Delivery], now: datetime) -> list[str]:
    """Return a sentence for everything that a person has to do something about."""
    from shareasm.model import ASKS_FOR_A_PERSON, DeliveryState

    store, accounts = session.store, session.desk.accounts
    asking = {*ASKS_FOR_A_PERSON, DeliveryState.BLOCKED, DeliveryState.PAUSED}
    found = [f"{d.id} is {d.state}: {d.reason}" for d in queue if d.state in asking]
    waiting = [d for d in queue if d.state in _ON_ITS_WAY]
    if not alive and waiting:
        found.append("The worker is not running and posts wait to go out. Start it with `shareasm up`.")
    found += [f"{d.id} waits for the account {d.account}, which desk.toml does not have." for d in waiting
              if d.account not in accounts]  # fmt: skip
    found += [
        f"{d.id} is {round((now - d.due_at).total_seconds())} s late: {d.reason or d.state}"
        for d in late if alive and d.account in accounts and now - d.due_at > WORTH_A_LOOK
    ]  # fmt: skip
    found += [f"{s.network} {s.server} is stopped: {s.error}" for s in store.sources.states() if s.state == "stopped"]
    found += [
        f"{account} rests until {until:%H:%M} UTC: {why}" for account, (until, why) in store.workers.closed(now).items()
    ]
    found += [f"{s.scope} {s.key} was paused by the desk: {s.reason}" for s in store.switches.on() if s.by == "desk"]
    return found
