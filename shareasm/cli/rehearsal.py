"""Rehearsal: the example day on the practice network, with an audience that is simulated and says so."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shareasm.cli.house import EXAMPLE, make_desk
from shareasm.cli.running import LOCAL, PORT, Dashboard, Stopped, log_to_stderr, until_stopped
from shareasm.cli.session import Session, number_of

if TYPE_CHECKING:
    from shareasm.model import Campaign, Tally
    from shareasm.networks.practice import Truth
    from shareasm.worker import Worker

DEMO_MARK = ".rehearsal-desk"
BEFORE_THE_FIRST_POST = timedelta(minutes=30)
STOPPED = 130


@click.command("demo")
@PORT
@click.option("--no-dashboard", is_flag=True, help="Without the dashboard.")
@click.option("--until-done", is_flag=True, help="End by itself when the day is over, with the day's report.")
@click.option(
    "--speed", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Times faster than the world."
)
@click.option("--seed", type=int, default=2015, show_default=True, help="Another seed, another audience.")
@click.pass_obj
def demo_command(session: Session, port: int, no_dashboard: bool, until_done: bool, speed: float, seed: int) -> int:
    """Rehearse the example day: every post, and a simulated audience that answers. Nothing leaves this machine."""
    log_to_stderr(session)
    with ExitStack() as open_things:
        stopped = open_things.enter_context(until_stopped())
        inner = Session(_fresh_demo(session, seed), as_json=session.as_json, quiet=session.quiet, debug=session.debug)
        open_things.callback(inner.close)
        campaign = _planned_demo(inner)
        dashboard = None if no_dashboard else open_things.enter_context(Dashboard(inner.desk, port, LOCAL))
        if dashboard is not None and not _shows(session, dashboard, stopped):
            return STOPPED if stopped() else 1
        return _live_the_day(inner, campaign, speed, dashboard, stopped, until_done=until_done)


def _shows(session: Session, dashboard: Dashboard, stopped: Stopped) -> bool:
    """Wait for the dashboard and say where it is. Return False when it does not come."""
    if not dashboard.answers(stopped):
        session.tell("Stopped." if stopped() else "The dashboard did not start; try --no-dashboard.")
        return False
    session.tell(f"The desk is on {dashboard.address} — a rehearsal: the audience is simulated. Ctrl-C ends it.")
    return True


def _fresh_demo(session: Session, seed: int) -> Path:
    """Make a new rehearsal desk in place of the last one; a folder that is none of ours is never emptied."""
    from shareasm.errors import ConfigError

    folder = session.folder / ".cache" / "demo"
    if folder.exists():
        if not (folder / DEMO_MARK).is_file():
            raise ConfigError(
                f"{folder} is not a rehearsal desk.", "Move it away, or run the demo elsewhere with --desk."
            )
        if _is_running(folder):
            raise ConfigError(f"A rehearsal runs in {folder} already.", "End it first, or run another with --desk.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / DEMO_MARK).write_text("Made by `shareasm demo`, which empties this folder each time.\n", encoding="utf-8")
    make_desk(folder)
    desk_toml = folder / "desk.toml"
    words = desk_toml.read_text(encoding="utf-8").replace(
        'handle = "asm-desk"\n', f'handle = "asm-desk"\n\n[accounts.rehearsal.options]\nseed = "{seed}"\n', 1
    )
    desk_toml.write_text(words, encoding="utf-8")
    return folder


def _is_running(folder: Path) -> bool:
    """Tell whether a worker of this rehearsal is still at it; one that cannot be asked is none."""
    from shareasm.errors import DeskError
    from shareasm.worker import is_gone

    if not (folder / "desk.db").is_file():
        return False
    last = Session(folder)
    try:
        return any(not is_gone(worker) for worker in last.store.workers.all())
    except DeskError:
        return False
    finally:
        last.close()


def _planned_demo(session: Session) -> Campaign:
    """Sync and approve the whole example day."""
    from shareasm.plan.sign_off import approve
    from shareasm.plan.sync import read_plan, sync
    from shareasm.worker import limits_of

    limits = limits_of(session.desk)
    before = read_plan(session.desk, EXAMPLE, limits=limits, now=datetime.now(UTC)).campaign.start - timedelta(hours=1)
    sync(session.store, session.desk, EXAMPLE, limits=limits, now=before)
    signed = approve(session.store, session.desk, EXAMPLE, None, by="Rehearsal", limits=limits, now=before)
    posts, deliveries = len(signed.deliveries), sum(signed.deliveries.values())
    session.tell(f"{number_of(posts, 'post')}, {number_of(deliveries, 'delivery')} approved for the rehearsal.")
    for sentence in signed.left_out:
        session.tell(f"left out: {sentence}")
    return session.campaign(EXAMPLE)


def _live_the_day(
    session: Session,
    campaign: Campaign,
    speed: float,
    dashboard: Dashboard | None,
    stopped: Stopped,
    *,
    until_done: bool,
) -> int:
    """Let the day pass, write its report, compare, and keep the dashboard open until it is ended."""
    from shareasm.worker import RehearsalClock, Worker

    first = min(d.due_at for d in session.store.queue.all(campaign.folder))
    clock = RehearsalClock(max(campaign.start, first - BEFORE_THE_FIRST_POST))
    worker = Worker(session.desk, session.store, clock, rehearsal=True, stopping=stopped.event)
    worker.open()
    worker.beat()
    try:
        _rehearse(session, campaign, worker, clock, speed, dashboard, stopped)
        if stopped():
            session.tell("Stopped before the day was over.")
            return STOPPED if until_done else 0
        if dashboard is not None and dashboard.has_ended:
            session.tell("The dashboard ended by itself, so the rehearsal ends too; its words stand above.")
            return 1
        good = _tell_the_day(session, campaign, clock.now())
        if dashboard is not None and not until_done:
            session.tell("The day is over; the dashboard stays open. Ctrl-C ends it.")
            while not dashboard.has_ended and not stopped.wait(1.0):
                worker.beat()  # the page tells by it what the desk's time is
        return 0 if good else 1
    finally:
        worker.store.workers.leave(worker.process)


def _rehearse(
    session: Session,
    campaign: Campaign,
    worker: Worker,
    clock,
    speed: float,
    dashboard: Dashboard | None,
    stopped: Stopped,
) -> None:
    from shareasm.worker import rehearse

    with session.progress() as progress:

        def tell(now: datetime, total: Tally) -> None:
            if stopped() or (dashboard is not None and dashboard.has_ended):
                worker.stopping.set()
            out = session.store.queue.counts(campaign.folder).get("published", 0)
            progress.tell(lambda: f"{now:%H:%M} UTC · {out} deliveries out · {total.new} mentions collected")

        rehearse(worker, clock, until=campaign.end, speed=speed, tell=tell)


def _tell_the_day(session: Session, campaign: Campaign, now: datetime) -> bool:
    """Write the day's report and compare the desk with the network. Return True when both agree."""
    from shareasm import report
    from shareasm.networks import practice
    from shareasm.worker import is_done

    paths = report.write_report(session.store, campaign.folder, session.desk.folder / "report", now)
    truth = practice.truth(session.desk.folder, hashtags=(*campaign.hashtags, *campaign.variants))
    return _compare(session, campaign, truth, paths, done=is_done(session.store, campaign.folder))


def _compare(session: Session, campaign: Campaign, truth: Truth, paths: list[Path], *, done: bool) -> bool:
    from shareasm import measure

    names = ("mentions", "contributors")
    results = {r.name: r.value or {} for r in measure.measure(session.store, campaign.folder, names, now=campaign.end)}
    states = session.store.queue.counts(campaign.folder)
    published = states.get("published", 0)
    rows = [
        ("posts out, once each", published, truth.ours),
        ("mentions", results["mentions"].get("total"), truth.mentions),
        ("contributors", results["contributors"].get("total"), truth.contributors),
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
