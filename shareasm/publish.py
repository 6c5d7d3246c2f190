"""Publish: due deliveries to their networks, once each.

The steps are written once. The worker exhausts `deliver`; a test that drops it between two yields is a kill -9 there,
and one that waits before `next()` is a stalled process. Clock, store and network come in as arguments.

    claim ─▶ intent on disk ─▶ one request ─▶ outcome on disk
                                    └─ no readable answer ─▶ unconfirmed ─▶ look-up, twice ─▶ again, or a person

Nothing is sent without an intent on disk, nothing is sent twice without a look in between, and a fence drops whatever a
worker still holds after its lease was given to another.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from shareasm.errors import DeskError, LoginNeeded, NetworkError, NoCredits, PlanError, RateLimited, Refused
from shareasm.model import (
    Absent,
    Clock,
    Delivery,
    Found,
    Media,
    NotApplied,
    Outcome,
    Sent,
    Timings,
    Unclear,
    Unknown,
    Wire,
)
from shareasm.networks import Account
from shareasm.store import Store
from shareasm.store.queue import Begun, Stale

UPLOADS_LAST = timedelta(hours=1)
"""Networks forget what no post names: Bluesky within hours, X within a day. An older upload is made again."""
PREPARE_AHEAD = timedelta(minutes=10)
PREPARE_AT_ONCE = 20
"""How many deliveries are prepared before the next one is sent: a long queue must not hold up its own first post."""
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=15)
SHORTEST_REST = timedelta(seconds=1)
LONGEST_REST = timedelta(days=1)
"""A network says until when to wait; within these bounds it is believed. A wrong header must not hold us for years."""

ReadMedia = Callable[[str, Media], bytes]
"""Returns the bytes of a picture of a campaign. Raises PlanError when they are not those that were approved."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One account with everything that its deliveries need. One thread works in it at a time."""

    name: str
    account: Account
    store: Store
    clock: Clock
    worker: str
    timings: Timings
    read_media: ReadMedia

    def settle(self) -> timedelta:
        """Return how long after an unknown outcome a look is worth anything."""
        return self.account.settle


def run_lane(lane: Lane, stop: Callable[[], bool]) -> int:
    """Do everything that is due on one account: look-ups first, then deliveries. Return how many steps were done."""
    done = 0
    while not stop() and (reconcile(lane) or publish_next(lane)):
        done += 1
    return done


def publish_next(lane: Lane) -> bool:
    """Publish the account's next due delivery. Return False when there is none."""
    if not prepare(lane, until=lane.clock.now(), at_most=PREPARE_AT_ONCE):
        return False
    delivery = lane.store.queue.claim(lane.name, lane.worker, lane.clock, lane.timings)
    if delivery is None:
        return False
    try:
        for _ in deliver(lane, delivery):
            pass
    except Stale:
        lane.store.workers.note("stale", f"{delivery.id}: another worker went on with it", lane.clock.now())
    return True


def deliver(lane: Lane, delivery: Delivery) -> Iterator[str]:
    """Send one claimed delivery. Each yield is a boundary between two effects."""
    wire = delivery.wire or _compose(lane, delivery)
    if wire is None:
        return
    yield "composed"
    begun = lane.store.queue.intent(delivery, wire, lane.worker, lane.clock, lane.timings)
    if begun is None:
        return
    yield "intent"
    if lane.clock.monotonic() - begun.looked_at > lane.timings.guard_seconds:
        lane.store.queue.stalled(delivery, lane.worker, lane.clock)
        return
    outcome = lane.account.send(begun.wire)
    yield "sent"
    settle(lane, begun, outcome)
    yield "settled"


def _compose(lane: Lane, delivery: Delivery) -> Wire | None:
    """Return the request's body, or None when there can be none now: then the reason is in the row.

    One post that cannot be composed must not hold up the others of its account.
    """
    queue, now = lane.store.queue, lane.clock.now()
    ready = _ready(lane, delivery)
    if ready is None:
        queue.release(delivery, lane.worker, lane.clock, again_at=now + FIRST_WAIT, reason="a picture is not ready")
        return None
    try:
        return lane.account.compose(delivery.frozen, queue.thread_of(delivery), ready)
    except ValueError as error:  # what was approved cannot be said on this network at all
        queue.refused(delivery, lane.worker, NotApplied("content", str(error)), lane.clock, again_at=now)
    except DeskError as error:  # the account itself is not ready: nobody asked it who we are, say
        queue.release(delivery, lane.worker, lane.clock, again_at=now + FIRST_WAIT, reason=str(error))
    return None


def settle(lane: Lane, begun: Begun, outcome: Outcome) -> None:
    """Keep what became of a send. Raise Stale when the delivery is no longer ours."""
    queue, delivery = lane.store.queue, begun.delivery
    match outcome:
        case Sent(receipt):
            queue.confirm(delivery, lane.worker, receipt, lane.clock)
        case NotApplied():
            again = _within_reason(lane.clock.now(), outcome.until, _wait(delivery))
            queue.refused(delivery, lane.worker, outcome, lane.clock, again_at=again)
        case Unknown(why, status):
            queue.unknown(delivery, lane.worker, why, lane.clock, settle=lane.settle(), http_status=status)
        case _:
            assert_never(outcome)


def reconcile(lane: Lane) -> bool:
    """Look up one delivery whose answer was lost. Return False when there is none to look up."""
    queue = lane.store.queue
    delivery = queue.to_look_up(lane.name, lane.worker, lane.clock, lane.timings)
    if delivery is None:
        return False
    assert_has_wire(delivery)
    look_up = lane.account.look_up(delivery.wire or {})
    try:
        match look_up:
            case Found():
                queue.found(delivery, lane.worker, look_up, lane.clock)
            case Absent():
                queue.absent(delivery, lane.worker, lane.clock, _looks(lane), keeps_key=lane.account.keeps_key)
            case Unclear(why):
                queue.unclear(delivery, lane.worker, why, lane.clock, lane.timings)
            case _:
                assert_never(look_up)
    except Stale:
        lane.store.workers.note("stale", f"{delivery.id}: another worker looked it up", lane.clock.now())
    return True


def _looks(lane: Lane) -> Timings:
    """Return the timings of a look-up. Where a key holds for ever a second send is harmless: the next look is soon."""
    if lane.account.keeps_key != timedelta.max:
        return lane.timings
    return replace(lane.timings, look_again=min(lane.settle(), lane.timings.look_again))


def recover(lane: Lane, dead_workers: Collection[str]) -> int:
    """End the leases on this account that ran out or whose worker is gone. Return how many."""
    return lane.store.queue.recover(lane.name, lane.clock, settle=lane.settle(), dead_workers=dead_workers)


def prepare(lane: Lane, *, until: datetime, at_most: int | None = None) -> bool:
    """Upload the pictures of what is due by then. An upload is invisible, so repeating it is harmless.

    Return False when the account cannot be used now: its deliveries wait. A picture that cannot be uploaded now holds
    up its own delivery and no other.
    """
    if lane.name in lane.store.workers.closed(lane.clock.now()):
        return False
    for delivery in lane.store.queue.upcoming(lane.name, until, limit=at_most):
        have = _uploads(lane, delivery)
        for place, media in enumerate(delivery.frozen.media):
            if place not in have and not _prepare(lane, delivery, place, media):
                return False
    return True


def _prepare(lane: Lane, delivery: Delivery, place: int, media: Media) -> bool:
    now = lane.clock.now()
    try:
        content = lane.read_media(delivery.campaign, media)
        lane.store.workers.keep_ready(delivery.id, place, lane.account.prepare(media, content), now)
    except (PlanError, Refused) as error:  # this picture will never do; the others may
        lane.store.queue.fail(delivery.id, str(error))
    except (LoginNeeded, NoCredits) as error:
        lane.store.switches.pause("account", lane.name, by="desk", role="desk", reason=str(error), at=now)
        return False
    except RateLimited as error:
        lane.store.queue.close(lane.name, _within_reason(now, error.until, FIRST_WAIT), str(error))
        return False
    except NetworkError as error:
        lane.store.queue.postpone(delivery.id, now, now + FIRST_WAIT, str(error))
    return True


def _ready(lane: Lane, delivery: Delivery) -> list[Mapping[str, object]] | None:
    """Return the uploads of this delivery's pictures in order, or None when one is missing."""
    have = _uploads(lane, delivery)
    places = range(len(delivery.frozen.media))
    return [have[place] for place in places] if all(place in have for place in places) else None


def _uploads(lane: Lane, delivery: Delivery) -> Mapping[int, Mapping[str, object]]:
    if not delivery.frozen.media:
        return {}
    return lane.store.workers.ready(delivery.id, since=lane.clock.now() - UPLOADS_LAST)


def assert_has_wire(delivery: Delivery) -> None:
    """Refuse to look up what has no bytes: an unconfirmed delivery always has those of its first intent."""
    if delivery.wire is None:
        raise ValueError(f"{delivery.id} is unconfirmed without an intent")


def _within_reason(now: datetime, until: datetime | None, otherwise: timedelta) -> datetime:
    return min(max(until or now + otherwise, now + SHORTEST_REST), now + LONGEST_REST)


def _wait(delivery: Delivery) -> timedelta:
    """Return how long to wait after a refusal that may pass: longer with each try, never more than 15 minutes."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(delivery.tries, 8))
