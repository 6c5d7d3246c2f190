"""House: init, demo, up, worker, dashboard, status and the database."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shareasm.cli.session import Session, rfc3339

if TYPE_CHECKING:
    from shareasm.desk import Desk
    from shareasm.model import Campaign

EXAMPLE = "asm-day-2015"
DEMO_MARK = ".rehearsal-desk"
PORT = click.option("--port", default=8501, show_default=True, help="The dashboard's port.")


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.pass_obj
def init_command(session: Session, folder: Path | None) -> None:
    """Make a new desk: desk.toml, .env.example, an example campaign. Nothing that exists is touched."""
    target = folder or session.folder
    for path in _init(target):
        session.say(f"Wrote {path}")
    session.say("Next: `shareasm plan sync`, `shareasm check`, `shareasm plan approve --all --by YOU`, `shareasm up`.")


@click.command("worker")
@click.pass_obj
def worker_command(session: Session) -> None:
    """Publish what is due and collect what is said, until stopped."""
    from shareasm.worker import Worker

    _log(session)
    worker = Worker(session.desk, session.store)
    session.tell(f"The worker runs for {', '.join(session.desk.accounts) or 'no account'}. Ctrl-C stops it.")
    worker.run()


@click.command("dashboard")
@PORT
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.pass_obj
def dashboard_command(session: Session, port: int, host: str) -> int:
    """Show the dashboard. It never posts and never schedules."""
    process = _dashboard(session.desk, port, host)
    session.tell(f"The dashboard is on http://{host}:{port}. Ctrl-C stops it.")
    return _wait_for(process)


@click.command("up")
@PORT
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.pass_obj
def up_command(session: Session, port: int, host: str) -> int:
    """Run worker and dashboard together; one Ctrl-C ends both."""
    from shareasm.worker import Worker

    _log(session)
    worker = Worker(session.desk, session.store)
    dashboard = _dashboard(session.desk, port, host)
    session.tell(f"The desk is on http://{host}:{port}. Ctrl-C ends worker and dashboard.")
    try:
        worker.run()
    finally:
        _end(dashboard)
    return 0


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

    applied = upgrade(Database(session.desk.database))
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


# ── The rehearsal ────────────────────────────────────────────────────────────────────────────────────────────────────


@click.command("demo")
@PORT
@click.option("--no-dashboard", is_flag=True, help="Without the dashboard.")
@click.option("--until-done", is_flag=True, help="End by itself when the day is over, with the day's report.")
@click.option("--speed", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Times faster than the world.")
@click.option("--seed", type=int, default=2015, show_default=True, help="Another seed, another audience.")
@click.pass_obj
def demo_command(
    session: Session, port: int, no_dashboard: bool, until_done: bool, speed: float, seed: int
) -> int:
    """Rehearse the example day: every post, and a simulated audience that answers. Nothing leaves this machine."""
    _log(session)
    folder = _fresh_demo(session.folder / ".cache" / "demo", seed)
    inner = Session(folder, as_json=session.as_json, quiet=session.quiet, debug=session.debug)
    campaign = _planned_demo(inner)
    dashboard = None if no_dashboard else _dashboard(inner.desk, port, "127.0.0.1")
    if dashboard is not None:
        session.tell(f"The desk is on http://localhost:{port} — a rehearsal: the audience is simulated.")
    try:
        good = _rehearse(inner, campaign, speed)
        if dashboard is not None and not until_done:
            session.tell("The day is over; the dashboard stays open. Ctrl-C ends it.")
            return _wait_for(dashboard)
    finally:
        _end(dashboard)
        inner.close()
    return 0 if good else 1


def _fresh_demo(folder: Path, seed: int) -> Path:
    """Make a new rehearsal desk in place of the last one; a folder that is none of ours is never emptied."""
    from shareasm.errors import ConfigError

    if folder.exists():
        if not (folder / DEMO_MARK).exists():
            raise ConfigError(f"{folder} is not a rehearsal desk.", "Move it away, or run the demo elsewhere with --desk.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / DEMO_MARK).write_text("Made by `shareasm demo`, which empties this folder each time.\n", encoding="utf-8")
    _init(folder)
    desk_toml = folder / "desk.toml"
    words = desk_toml.read_text(encoding="utf-8").replace(
        'handle = "asm-desk"\n', f'handle = "asm-desk"\n\n[accounts.rehearsal.options]\nseed = "{seed}"\n', 1
    )
    desk_toml.write_text(words, encoding="utf-8")
    return folder


def _planned_demo(session: Session) -> Campaign:
    """Sync and approve the whole example day."""
    from shareasm.plan.sign_off import approve
    from shareasm.plan.sync import read_plan, sync
    from shareasm.worker import limits_of

    limits = limits_of(session.desk)
    before = read_plan(session.desk, EXAMPLE, limits=limits, now=datetime.now(UTC)).campaign.start - timedelta(hours=1)
    sync(session.store, session.desk, EXAMPLE, limits=limits, now=before)
    signed = approve(session.store, session.desk, EXAMPLE, None, by="Rehearsal", limits=limits, now=before)
    session.tell(f"{len(signed.deliveries)} posts, {sum(signed.deliveries.values())} deliveries approved for the rehearsal.")
    for sentence in signed.left_out:
        session.tell(f"left out: {sentence}")
    return session.campaign(EXAMPLE)


def _rehearse(session: Session, campaign: Campaign, speed: float) -> bool:
    """Let the day pass, write its report, and compare with what the practice network holds."""
    from shareasm import report
    from shareasm.networks import practice
    from shareasm.worker import RehearsalClock, Worker, is_done, rehearse

    first = min(d.due_at for d in session.store.queue.all(campaign.folder))
    clock = RehearsalClock(max(campaign.start, first - timedelta(minutes=30)))
    worker = Worker(session.desk, session.store, clock, rehearsal=True)
    worker.open()
    worker.beat()
    told = time.monotonic()

    def tell(now: datetime, total) -> None:
        nonlocal told
        if time.monotonic() - told >= (1 if session.on_terminal else 5):
            told = time.monotonic()
            out = session.store.queue.counts(campaign.folder).get("published", 0)
            session.tell(f"{now:%H:%M} UTC · {out} deliveries out · {total.new} mentions collected")

    rehearse(worker, clock, until=campaign.end, speed=speed, tell=tell)
    paths = report.writer("html")(session.store, campaign, session.desk.folder / "report", now=clock.now())
    worker.store.workers.leave(worker.process) if worker.stopping.is_set() else None
    truth = practice.truth(session.desk.folder)
    return _compare(session, campaign, truth, is_done(session.store, campaign.folder), paths)


def _compare(session: Session, campaign: Campaign, truth, done: bool, paths: list[Path]) -> bool:
    from shareasm import measure

    results = {r.name: r.value for r in measure.measure(session.store, campaign.folder, None, now=campaign.end)}
    states = session.store.queue.counts(campaign.folder)
    published = states.get("published", 0)
    rows = [
        ("posts out, once each", published, truth.own_posts),
        ("mentions", results["mentions"]["total"], truth.mentions),
        ("contributors", results["contributors"]["total"], truth.contributors),
    ]
    equal = done and published == sum(states.values()) and all(ours == theirs for _, ours, theirs in rows)
    if session.as_json:
        session.data(
            {
                "campaign": campaign.folder, "deliveries": states, "equal": equal, "report": [str(p) for p in paths],
                "compared": [{"what": what, "desk": ours, "practice": theirs} for what, ours, theirs in rows],
            }
        )  # fmt: skip
        return equal
    session.say(f"{campaign.name}: the day is over (a rehearsal: the audience is simulated).")
    session.table(("", "the desk", "the practice network"), rows)
    session.say("Both agree." if equal else "They differ: something was lost or doubled.")
    for path in paths:
        session.say(f"The day's report: {path}")
    return equal


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _init(folder: Path) -> list[Path]:
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


def _dashboard(desk: Desk, port: int, host: str) -> subprocess.Popen[bytes]:
    """Start the dashboard as a process of its own. Raise ConfigError for an open address without a login."""
    import ipaddress
    import os
    import socket

    from shareasm.errors import ConfigError

    local = host == "localhost" or ipaddress.ip_address(host).is_loopback if host != "localhost" else True
    if not local and desk.dashboard.login == "none":
        raise ConfigError(
            f"The dashboard would be open to everybody on {host}.",
            "Set up a login under [dashboard] in desk.toml, or leave --host out.",
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1" if host == "localhost" else host, port))
        except OSError as error:
            raise ConfigError(f"Port {port} is taken.", f"Name another one: --port {port + 1}.") from error
    app = _app()
    words = [sys.executable, "-m", "streamlit", "run", str(app), "--server.port", str(port), "--server.address", host]
    return subprocess.Popen(words, env=os.environ | {"SHAREASM_DESK": str(desk.folder)}, cwd=app.parent,  # noqa: S603
                            stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip


def _app() -> Path:
    from importlib.util import find_spec

    from shareasm.errors import ConfigError

    found = find_spec("dashboards")
    for place in (found.submodule_search_locations if found else None) or ():
        return Path(place) / "app.py"
    raise ConfigError("The dashboard is not installed.", "Install the whole desk again.")


def _wait_for(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _log(session: Session) -> None:
    import logging

    level = logging.INFO if session.debug else logging.ERROR if session.quiet else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    for loud in ("apscheduler", "httpx", "httpcore", "tweepy", "urllib3", "websockets", "atproto"):
        logging.getLogger(loud).setLevel(max(logging.WARNING, level))  # their debug lines hold keys


def _status(session: Session) -> dict[str, Any]:
    store = session.store
    now = session.clock.now()
    pulse = store.workers.pulse(now)
    queue = store.queue.all()
    waiting = [d for d in queue if d.state == "scheduled"]
    following = min(waiting, key=lambda d: (d.next_at, d.id), default=None)
    problems = _problems(session, pulse.alive, queue)
    return {
        "worker": {"alive": pulse.alive, "seen_at": rfc3339(pulse.seen_at)},
        "deliveries": store.queue.counts(),
        "next": following and {
            "id": following.id, "account": following.account, "due": rfc3339(following.due_at),
            "text": following.frozen.text,
        },
        "sources": [
            {
                "campaign": s.campaign, "network": s.network, "server": s.server, "hashtag": s.query, "state": s.state,
                "complete_until": rfc3339(s.complete_until),
                "lag_seconds": None if s.complete_until is None else max(0, round((now - s.complete_until).total_seconds())),
                "error": s.error,
                "gaps": [{"from": rfc3339(g.from_at), "to": rfc3339(g.to_at), "why": g.why} for g in s.gaps],
            }
            for s in store.sources.states()
        ],
        "switches": [
            {"scope": s.scope, "key": s.key, "by": s.by, "at": rfc3339(s.at), "reason": s.reason}
            for s in store.switches.on()
        ],
        "problems": problems,
    }  # fmt: skip


def _problems(session: Session, alive: bool, queue: list[Any]) -> list[str]:
    from shareasm.model import ASKS_FOR_A_PERSON, DeliveryState

    store = session.store
    found = [f"{d.id} is {d.state}: {d.reason}" for d in queue if d.state in {*ASKS_FOR_A_PERSON, DeliveryState.BLOCKED}]
    found += [f"{d.id} is paused: {d.reason}" for d in queue if d.state is DeliveryState.PAUSED]
    if not alive and any(d.state is DeliveryState.SCHEDULED for d in queue):
        found.append("The worker is not running and posts wait to go out. Start it with `shareasm up`.")
    found += [f"{s.network} {s.server} is stopped: {s.error}" for s in store.sources.states() if s.state == "stopped"]
    found += [f"{account} rests until {until:%H:%M} UTC: {why}" for account, (until, why) in store.workers.closed(session.clock.now()).items()]
    return found
