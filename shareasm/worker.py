"""Worker: the clock. It calls publish and collect at the right moments; nothing else schedules.

APScheduler is the clock only: UTC, a memory job store, jobs that carry nothing. The truth is in the database, so a
worker may die at any line and the next one goes on. One thread per account publishes, one per source listens.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from shareasm import collect, networks, publish
from shareasm.desk import AccountSettings, Desk, ListenSettings, keep_session, kept_session, secret
from shareasm.errors import ConfigError, DeskError, NetworkError, PlanError, RateLimited, Unreachable
from shareasm.model import Campaign, Clock, DeliveryState, Limits, Media, Tally, Timings, WorldClock, digest_of
from shareasm.networks import Account, Setting
from shareasm.plan.files import PLANS
from shareasm.plan.media import read_media
from shareasm.store import Store
from shareasm.store.workers import Worker as Process

log = logging.getLogger("shareasm.worker")

WAKES_AHEAD = timedelta(minutes=15)
LISTEN_AFTER = timedelta(days=7)
"""A campaign is listened to until a week after its last moment: late answers still come."""
OPEN_AGAIN_SECONDS = 60.0
JOIN_SECONDS = 4.0


# ── Opening what desk.toml names ─────────────────────────────────────────────────────────────────────────────────────


def setting_for(desk: Desk, account: AccountSettings, clock: Clock) -> Setting:
    """Return what the network's file needs to open this account."""
    return Setting(
        network=account.network,
        name=account.name,
        server=account.server,
        handle=account.handle,
        folder=desk.folder,
        clock=clock,
        secret=partial(secret, desk, account.name),
        save=partial(keep_session, desk, account.name),
        load=partial(kept_session, desk, account.name),
        options=account.options,
    )


def open_account(desk: Desk, name: str, clock: Clock) -> Account:
    """Open one of the desk's accounts. Raise ConfigError when desk.toml has none of this name."""
    settings = desk.accounts.get(name)
    if settings is None:
        known = ", ".join(desk.accounts)
        raise ConfigError(f"desk.toml has no account “{name}”.", f"It has {known}." if known else "Add one.")
    return networks.network(settings.network).open_account(setting_for(desk, settings, clock))


def open_source(desk: Desk, listen: ListenSettings, clock: Clock) -> networks.Source:
    """Open one place to listen."""
    login = desk.accounts.get(listen.account) or AccountSettings(listen.account, listen.network, "")
    setting = setting_for(desk, login, clock)
    options = _practice_options(desk, listen) or setting.options
    return networks.network(listen.network).open_source(
        replace(setting, network=listen.network, server=listen.server, protocol=listen.protocol, options=options)
    )


def limits_of(desk: Desk, store: Store | None = None) -> dict[str, Limits]:
    """Return what each network accepts: as its server last said where the worker asked it, else its default."""
    known = networks.limits()
    if store is not None:
        for account, value in store.workers.limits().items():
            if account in desk.accounts:
                known[desk.accounts[account].network] = value
    return known


def own_handles(desk: Desk) -> frozenset[tuple[str, str]]:
    """Return our own accounts as the conversation recognises them."""
    return frozenset((a.network, a.handle.lower().lstrip("@")) for a in desk.accounts.values() if a.handle)


def picture_reader(desk: Desk) -> publish.ReadMedia:
    """Return the function that reads an approved picture and refuses one that was changed since."""

    def read(campaign: str, media: Media) -> bytes:
        import hashlib

        content = read_media(desk.folder / PLANS / campaign, media.file)
        if hashlib.sha256(content).hexdigest() != media.digest:
            raise PlanError(
                f"{media.file} is not the picture that was approved.",
                "Sync and approve the post again.",
                where=campaign,
            )
        return content

    return read


def _practice_options(desk: Desk, listen: ListenSettings) -> Mapping[str, object] | None:
    own = [a.options for a in desk.accounts.values() if a.network == listen.network and a.options]
    return own[0] if own else None


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def this_process() -> Process:
    """Return this process as another worker on this machine can recognise it."""
    pid = os.getpid()
    return Process(f"{uuid.uuid4().hex[:12]}-{pid}", machine(), pid, _started(pid) or "")


def machine() -> str:
    """Return the id of this machine's boot and of its process numbers: a process id means something only within both.

    Two containers share a boot and cannot see each other's processes; one must not take the other for dead.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"node-{uuid.getnode():x}"


def is_gone(process: Process) -> bool:
    """Return True when this worker surely does not run any more: same boot, and its process is not there."""
    if process.machine != machine():
        return False
    started = _started(process.pid)
    if started is not None:
        return started != process.pid_started
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _started(pid: int) -> str | None:
    """Return when a process started, as the kernel counts it; None where there is no /proc, or no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


# ── The worker ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Worker:
    """One worker process: lanes that publish, listeners that collect, and the steps that the clock calls."""

    desk: Desk
    store: Store
    clock: Clock = field(default_factory=WorldClock)
    timings: Timings = field(default_factory=Timings)
    rehearsal: bool = False
    process: Process = field(default_factory=this_process)
    lanes: dict[str, publish.Lane] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    _introduced: set[str] = field(default_factory=set)
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor | None = None
    _told: dict[str, float] = field(default_factory=dict)

    def open(self) -> None:
        """Open every account that desk.toml names. One that cannot be opened is told, and the others go on."""
        self.timings.check()
        for name in self.desk.accounts:
            try:
                account = open_account(self.desk, name, self.clock)
            except DeskError as error:
                self.tell("account", f"{name}: {error}")
                continue
            self.lanes[name] = publish.Lane(
                name, account, self.store, self.clock, self.process.id, self.timings, picture_reader(self.desk)
            )

    def tick(self) -> None:
        """Do what is due: sort out what may not go, then hand each account with work to its lane."""
        now = self.clock.now()
        self.store.queue.sort_out(self.desk.accounts, now)
        for name in self.store.queue.accounts_with_work(self.lanes, now):
            self._start(name)

    def work_through(self) -> None:
        """Do everything that is due, here and now, one account after the other."""
        self.store.queue.sort_out(self.desk.accounts, self.clock.now())
        for lane in self.lanes.values():
            publish.run_lane(lane, self.stopping.is_set)

    def recover(self) -> None:
        """Take back what dead workers held."""
        others = [w for w in self.store.workers.all() if w.id != self.process.id]
        gone = [worker for worker in others if is_gone(worker)]
        for lane in self.lanes.values():
            publish.recover(lane, [worker.id for worker in gone])
        for worker in gone:
            for source in self.store.sources.states():
                self.store.sources.release(source.id, worker.id)
            self.store.workers.leave(worker)

    def prepare(self) -> None:
        """Upload the pictures of the next minutes, so that each send is one small request."""
        for lane in self.lanes.values():
            if not self.stopping.is_set():
                publish.prepare(lane, until=self.clock.now() + publish.PREPARE_AHEAD)

    def beat(self) -> None:
        """Say that this worker lives."""
        world = datetime.now(UTC)
        offset = self.store.database.clock_offset()
        if isinstance(self.clock, WorldClock):
            self.clock.offset = offset
        self.store.workers.beat(
            self.process, world=world + offset, desk_now=self.clock.now(), rehearsal=self.rehearsal, offset=offset
        )

    def read_limits(self) -> None:
        """Ask each server that knows us what it accepts and keep it for checks."""
        for name in sorted(self._introduced):
            self._keep_limits(self.lanes[name])

    def _keep_limits(self, lane: publish.Lane) -> None:
        try:
            self.store.workers.keep_limits(lane.name, lane.account.limits(), self.clock.now())
        except NetworkError as error:
            self.tell("limits", f"{lane.name}: {error}")

    def listeners(self, campaigns: list[Campaign] | None = None) -> list[collect.Listener]:
        """Return a listener for each campaign at each place where the desk listens and that can be opened."""
        found = []
        for campaign in self.store.campaigns.all() if campaigns is None else campaigns:
            for place in self.desk.sources():
                try:
                    found.append(self.listener(campaign, place))
                except DeskError as error:
                    self.tell("source", f"{place.network}: {error}")
        return found

    def listener(self, campaign: Campaign, place: ListenSettings) -> collect.Listener:
        """Return a campaign's listener at one place. Raise DeskError when it cannot be opened."""
        source = open_source(self.desk, place, self.clock)
        return collect.listener(
            self.store, campaign, source, clock=self.clock, owner=self.process.id, own_handles=own_handles(self.desk)
        )

    def run(self) -> None:
        """Work until `stopping` is set; what is being sent is sent to its end."""
        from apscheduler.events import EVENT_JOB_ERROR
        from apscheduler.jobstores.memory import MemoryJobStore
        from apscheduler.schedulers.background import BackgroundScheduler

        self.open()
        scheduler = BackgroundScheduler(
            timezone=UTC,
            jobstores={"default": MemoryJobStore()},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )
        scheduler.add_listener(lambda event: self.tell("clock", repr(event.exception)), EVENT_JOB_ERROR)
        with self._pooled():
            self.guarded(self.beat)()
            self.guarded(self.recover)()
            for seconds, job in ((1, self.tick), (1, self.beat), (5, self.recover), (3_600, self.read_limits)):
                scheduler.add_job(self.guarded(job), "interval", seconds=seconds, id=job.__name__)
            scheduler.add_job(
                self.guarded(self._prepare_lanes), "interval", seconds=60, next_run_time=datetime.now(UTC)
            )
            scheduler.add_job(self.guarded(lambda: self._wake(scheduler)), "interval", seconds=30, id="wakes",
                              next_run_time=datetime.now(UTC))  # fmt: skip
            scheduler.start()
            listening = Listening(self, self.campaigns_on)
            try:
                while not self.stopping.is_set():
                    self.guarded(listening.keep_up)()
                    self._watch_clock(scheduler)
                    self.stopping.wait(1.0)
            finally:
                self.stopping.set()
                scheduler.shutdown(wait=True)
                listening.join()
        self.store.workers.leave(self.process)

    def campaigns_on(self) -> list[Campaign]:
        """Return the campaigns that are to be listened to now. Read-only."""
        now = self.clock.now()
        return [campaign for campaign in self.store.campaigns.all() if now < campaign.end + LISTEN_AFTER]

    def _watch_clock(self, scheduler) -> None:
        """End when the scheduler's thread died: a worker that looks alive and does nothing is the worst kind."""
        thread = getattr(scheduler, "_thread", None)
        if thread is not None and not thread.is_alive():
            self.tell("clock", "the scheduler's thread ended; this worker ends too")
            self.stopping.set()

    def _wake(self, scheduler) -> None:
        """Set an alarm for each moment of the next minutes, so that a post goes out at its second, not after it."""
        moment = self.clock.now()
        horizon = moment + WAKES_AHEAD
        while (following := self.store.queue.next_moment(self.lanes, after=moment)) and following <= horizon:
            scheduler.add_job(
                self.guarded(self.tick), "date", run_date=following, id=f"wake-{following.isoformat()}",
                replace_existing=True,
            )  # fmt: skip
            moment = following

    def _prepare_lanes(self) -> None:
        for name in self.lanes:
            self._start(name, preparing=True)

    def _start(self, name: str, *, preparing: bool = False) -> None:
        with self._lock:
            if name in self._busy or self._pool is None or self.stopping.is_set():
                return
            self._busy.add(name)
        self._pool.submit(self._work, name, preparing)

    def _work(self, name: str, preparing: bool) -> None:
        lane = self.lanes[name]
        try:
            self.guarded(partial(self._do, lane, preparing=preparing))()
        finally:
            with self._lock:
                self._busy.discard(name)

    def _do(self, lane: publish.Lane, *, preparing: bool) -> None:
        if not self._is_known(lane):  # a look-up needs no login, so what may be out is still looked for
            while not self.stopping.is_set() and publish.reconcile(lane):
                pass
            return
        if preparing:
            publish.prepare(lane, until=self.clock.now() + publish.PREPARE_AHEAD)
        publish.run_lane(lane, self.stopping.is_set)

    def _is_known(self, lane: publish.Lane) -> bool:
        """Ask the network once who we are there: what is sent later names us. Return False when it would not say.

        A key that it refuses pauses the account, so that it is not asked again and again; a server that does not answer
        lets the account rest a moment.
        """
        if lane.name in self._introduced:
            return True
        now = self.clock.now()
        if lane.name in self.store.workers.closed(now) or self._has_desk_paused(lane.name):
            return False
        try:
            lane.account.identity()
        except (Unreachable, RateLimited) as error:
            until = error.until if isinstance(error, RateLimited) and error.until else now + publish.FIRST_WAIT
            self.store.queue.close(lane.name, until, str(error))
            self.tell("account", str(error))
            return False
        except (NetworkError, ConfigError) as error:
            self.store.switches.pause("account", lane.name, by="desk", role="desk", reason=str(error), at=now)
            self.tell("account", str(error))
            return False
        self._introduced.add(lane.name)
        self._keep_limits(lane)
        return True

    def _has_desk_paused(self, account: str) -> bool:
        on = self.store.switches.on()
        return any(switch.scope == "account" and switch.key == account and switch.by == "desk" for switch in on)

    @contextmanager
    def _pooled(self) -> Iterator[None]:
        with ThreadPoolExecutor(max_workers=max(1, len(self.lanes)), thread_name_prefix="lane") as self._pool:
            yield
        self._pool = None

    def guarded(self, step: Callable[[], object]) -> Callable[[], None]:
        """Return the step so that its error is logged and written down, and the worker goes on."""

        def guarded() -> None:
            try:
                step()
            except DeskError as error:
                self.tell("error", str(error))
            except Exception as error:  # the worker's loop is the one place that may not end
                log.exception("A step of the worker failed")
                self.tell("bug", f"{type(error).__name__}: {error}")

        return guarded

    def tell(self, kind: str, words: str) -> None:
        """Log a sentence, and write it down once a minute at most, so that a fault cannot flood the disk."""
        last = self._told.get(words)
        if last is not None and time.monotonic() - last < 60:
            return
        self._told[words] = time.monotonic()
        log.warning("%s", words)
        try:
            self.store.workers.note(kind, words, self.clock.now())
        except DeskError as error:  # the disk may be what failed; the log has the words
            log.warning("%s", error)


class Listening:
    """The threads that listen, one per campaign and place: started when a campaign appears, ended when it is over.

    A place that cannot be opened, and a thread that a fault of ours ended, are tried again after a minute. A source
    that a person has to look after first (a refused key, no credits) stays stopped until the worker starts again.
    """

    def __init__(self, worker: Worker, campaigns: Callable[[], list[Campaign]]) -> None:
        self._worker = worker
        self._campaigns = campaigns
        self._threads: dict[_Ear, threading.Thread] = {}
        self._not_before: dict[_Ear, float] = {}
        self._said: dict[_Ear, str] = {}
        self._heard_by: dict[tuple[str, ListenSettings], str] = {}
        self._wanted: frozenset[str] = frozenset()

    def keep_up(self) -> None:
        """Start what should listen and does not; let end what should not."""
        campaigns = self._campaigns()
        self._wanted = frozenset(_words_of(campaign) for campaign in campaigns)
        for campaign in campaigns:
            for place in self._worker.desk.sources():
                ear = _Ear(campaign.folder, _words_of(campaign), place)
                if not self._is_held(ear) and time.monotonic() >= self._not_before.get(ear, 0.0):
                    self._start(ear, campaign)

    def _is_held(self, ear: _Ear) -> bool:
        """Tell whether the campaign is heard at this place, be it still by its former words."""
        return any(other.folder == ear.folder and other.place == ear.place for other in list(self._threads))

    def is_idle(self) -> bool:
        """Return True when nothing listens any more."""
        return not any(thread.is_alive() for thread in self._threads.values())

    def join(self) -> None:
        """Wait a moment for the threads to put down their last page."""
        end = time.monotonic() + JOIN_SECONDS
        for thread in list(self._threads.values()):
            thread.join(timeout=max(0.0, end - time.monotonic()))

    def _start(self, ear: _Ear, campaign: Campaign) -> None:
        self._not_before[ear] = time.monotonic() + OPEN_AGAIN_SECONDS
        try:
            listener = self._worker.listener(campaign, ear.place)
        except DeskError as error:
            if self._said.get(ear) != str(error):  # once, not each minute
                self._said[ear] = str(error)
                self._worker.tell("source", f"{ear.place.network}: {error}")
            return
        if self._heard_by.setdefault((ear.folder, ear.place), ear.words) != ear.words:
            self._worker.store.sources.rewind(listener.source_id)  # what its new words name may have been said before
            self._heard_by[ear.folder, ear.place] = ear.words
        name = f"listen-{ear.place.network}"
        thread = threading.Thread(target=self._listen, args=(ear, listener), name=name, daemon=True)
        self._threads[ear] = thread
        thread.start()

    def _listen(self, ear: _Ear, listener: collect.Listener) -> None:
        worker = self._worker
        is_for_good = False

        def is_over() -> bool:
            return worker.stopping.is_set() or ear.words not in self._wanted

        def listen() -> None:
            nonlocal is_for_good
            collect.listen_on(listener, is_over, worker.stopping.wait)
            is_for_good = not is_over()

        worker.guarded(listen)()
        self._not_before[ear] = time.monotonic() + OPEN_AGAIN_SECONDS
        if not is_for_good:
            del self._threads[ear]


@dataclass(frozen=True, slots=True)
class _Ear:
    """One campaign, as its file says now, at one place. An edited campaign is listened to by another ear."""

    folder: str
    words: str
    place: ListenSettings


def _words_of(campaign: Campaign) -> str:
    return digest_of(
        [campaign.folder, campaign.hashtags, campaign.variants, campaign.broken, campaign.look_alikes]
        + [[a.tag, *a.beside] for a in campaign.ambiguous]
        + [campaign.start.isoformat(), campaign.end.isoformat()]
    )


# ── Rehearsal ────────────────────────────────────────────────────────────────────────────────────────────────────────


class RehearsalClock:
    """The desk's time in a rehearsal: it runs at a speed of its own and waits for the work of each moment.

    Because it stands still while something is done, nothing is late or missed for the speed's sake, and the same plan
    and seed give the same day at any speed.
    """

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the desk's time."""
        return self._now

    def monotonic(self) -> float:
        """Return real seconds: a guard of one second means one second also in a rehearsal."""
        return time.monotonic()

    def move_to(self, moment: datetime) -> None:
        """Go on to a later moment."""
        self._now = max(self._now, moment)


def rehearse(
    worker: Worker, clock: RehearsalClock, *, until: datetime, speed: float, tell: Callable[[datetime, Tally], object]
) -> Tally:
    """Let the desk live from the clock's moment to `until`, so many times faster than the world.

    Return what was collected. The clock goes from one moment that matters to the next and waits for the work of each.
    """
    listeners = worker.listeners()
    total = Tally()
    began_at, began = clock.now(), time.monotonic()
    step = timedelta(minutes=1)
    beaten = 0.0

    def pulse() -> None:
        nonlocal beaten
        if time.monotonic() - beaten >= 0.5 or clock.now() >= until:
            beaten = time.monotonic()
            worker.recover()
            worker.beat()
            tell(clock.now(), total)

    while clock.now() < until and not worker.stopping.is_set():
        due = worker.store.queue.next_moment(worker.lanes, after=clock.now())
        clock.move_to(min(until, clock.now() + step, *([due] if due else [])))
        at = began + (clock.now() - began_at).total_seconds() / speed
        while (ahead := at - time.monotonic()) > 0 and not worker.stopping.wait(min(ahead, 0.5)):
            pulse()
        worker.work_through()
        for listener in listeners:
            total += collect.sweep(listener)
        pulse()
    for listener in listeners:
        worker.store.sources.release(listener.source_id, worker.process.id)
    return total


def is_done(store: Store, campaign: str) -> bool:
    """Return True when nothing of the campaign waits or is on its way any more."""
    left = store.queue.counts(campaign)
    return not any(
        left.get(state)
        for state in (DeliveryState.SCHEDULED, DeliveryState.CLAIMED, DeliveryState.SENDING, DeliveryState.UNCONFIRMED)
    )
