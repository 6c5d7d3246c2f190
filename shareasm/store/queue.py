"""Queue: every change of a delivery's state, each in one transaction.

Every change names the fence under which the delivery was claimed. When no row changes, another worker owns it by now:
`Stale` is raised, and its holder drops everything and writes nothing. No transaction holds a network call.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Connection, Select, and_, bindparam, case, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from shareasm.errors import NotAllowed, PlanError, StateError
from shareasm.model import (
    Clock,
    Delivery,
    DeliveryState,
    Found,
    Frozen,
    NotApplied,
    PostState,
    Receipt,
    Thread,
    Timings,
    Wire,
    digest_of,
)
from shareasm.store import audit, switches
from shareasm.store.engine import Database, Moment, changed, for_update, storable, upsert
from shareasm.store.tables import attempts, campaigns, closures, deliveries, posts
from shareasm.store.tables import switches as switch_rows

HALF_A_THREAD = timedelta(minutes=30)
"""How long a thread may stand half out before a person is asked."""

LAST_MOMENT_PASSED = "its last moment passed before it could be sent"

S = DeliveryState
_LOST_HEAD = (S.MISSED, S.FAILED, S.CANCELLED)
APPROVERS = frozenset({"approver", "admin"})


class Stale(Exception):  # not an error: the news that somebody else goes on
    """Another worker owns this delivery by now. Drop everything, write nothing."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An intent that is on disk: from `looked_at` (monotonic) the send has the guard's time to begin."""

    delivery: Delivery
    wire: Wire
    looked_at: float


class Queue:
    """The deliveries, as the publisher moves them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ── What is there (read-only) ────────────────────────────────────────────────────────────────────────────────────

    def all(self, campaign: str | None = None) -> list[Delivery]:
        """Return the deliveries in order of time. Read-only."""
        query = _rows().order_by(deliveries.c.due_at, deliveries.c.id)
        if campaign is not None:
            query = query.where(campaigns.c.folder == campaign)
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def get(self, delivery_id: str) -> Delivery:
        """Return one delivery. Raise PlanError when there is none."""
        with self._database.read() as connection:
            row = connection.execute(_rows().where(deliveries.c.id == delivery_id)).first()
        if row is None:
            raise PlanError(f"There is no delivery “{delivery_id}”.", "See `shareasm plan list`.")
        return _delivery(row)

    def counts(self, campaign: str | None = None) -> dict[str, int]:
        """Return how many deliveries stand in each state. Read-only."""
        query = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        if campaign is not None:
            query = query.join(campaigns, campaigns.c.id == deliveries.c.campaign_id).where(
                campaigns.c.folder == campaign
            )
        with self._database.read() as connection:
            return {state: n for state, n in connection.execute(query)}

    def next_moment(self, accounts: Collection[str], *, after: datetime | None = None) -> datetime | None:
        """Return the next moment at which something is to be done for these accounts. Read-only."""
        query = select(func.min(deliveries.c.next_at)).where(
            deliveries.c.account.in_(accounts), deliveries.c.state.in_([S.SCHEDULED, S.UNCONFIRMED])
        )
        if after is not None:
            query = query.where(deliveries.c.next_at > after)
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def accounts_with_work(self, accounts: Collection[str], at: datetime) -> list[str]:
        """Return those of the accounts that have something due. Read-only."""
        query = (
            select(deliveries.c.account)
            .distinct()
            .where(
                deliveries.c.account.in_(accounts),
                deliveries.c.state.in_([S.SCHEDULED, S.UNCONFIRMED]),
                deliveries.c.next_at <= at,
            )
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def upcoming(self, account: str, until: datetime, *, limit: int | None = None) -> list[Delivery]:
        """Return what is scheduled on the account up to a moment, in order, for preparing its media. Read-only."""
        query = (
            _rows()
            .where(deliveries.c.account == account, deliveries.c.state == S.SCHEDULED, deliveries.c.next_at <= until)
            .order_by(deliveries.c.due_at, deliveries.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def tried(self, delivery_id: str) -> list[dict[str, object]]:
        """Return the attempts of one delivery, oldest first. Read-only."""
        query = select(attempts).where(attempts.c.delivery_id == delivery_id).order_by(attempts.c.id)
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def thread_of(self, delivery: Delivery) -> Thread | None:
        """Return what this delivery answers: its earlier parts, else the post it replies to. None for a first part."""
        with self._database.read() as connection:
            answered = list(_receipts(connection, delivery, delivery.reply_to).values()) if delivery.reply_to else []
            root = _root(connection, delivery, delivery.reply_to) if answered else None
            if delivery.part == 1:
                return Thread(parent=answered[0], root=root or answered[0]) if answered else None
            earlier = _receipts(connection, delivery, delivery.post)
            parents = [receipt for part, receipt in earlier.items() if part < delivery.part]
            return Thread(parent=parents[-1], root=root or parents[0]) if parents else None

    # ── The clock's part ─────────────────────────────────────────────────────────────────────────────────────────────

    def sort_out(self, accounts: Collection[str], at: datetime) -> None:
        """Move what is due but may not go out: to missed, paused, blocked, or to a person (half a thread)."""
        waiting = and_(deliveries.c.account.in_(accounts), deliveries.c.state == S.SCHEDULED)
        due = and_(waiting, deliveries.c.next_at <= at)
        late = and_(waiting, deliveries.c.part == 1, deliveries.c.not_after < at)  # also while its account rests
        with self._database.read() as connection:  # most ticks have nothing to do: they take no lock
            if connection.execute(select(deliveries.c.id).where(or_(due, late)).limit(1)).first() is None:
                return
        with self._database.write() as connection:
            _pause(connection, due)
            left_out = and_(due, deliveries.c.if_late == "skip", _earlier((S.CANCELLED,)))
            _move(connection, left_out, S.CANCELLED, "the part before it is left out")
            _move(connection, and_(due, _earlier(_LOST_HEAD)), S.BLOCKED, "an earlier part of its thread is not out")
            _move(
                connection, and_(due, _answered((S.MISSED, S.FAILED))), S.BLOCKED, "the post it replies to is not out"
            )
            _miss(connection, and_(late, _waits_for_approval()), "the post it replies to was not approved in time")
            _miss(connection, late, LAST_MOMENT_PASSED)
            _move(
                connection,
                and_(
                    due,
                    deliveries.c.part > 1,
                    # A part that a person released has time again, and is not taken from them at once.
                    or_(deliveries.c.next_at < at - HALF_A_THREAD, deliveries.c.not_after < at),
                    _earlier((S.PUBLISHED,), sent_before=at - HALF_A_THREAD),
                ),
                S.NEEDS_HUMAN,
                "half of this thread is out for 30 minutes",
            )

    def claim(self, account: str, worker: str, clock: Clock, timings: Timings) -> Delivery | None:
        """Take the account's next due delivery under a lease, or return None when there is none to take.

        The lane index lets one claim stand per account; a clash means another worker was quicker.
        """
        now = clock.now()
        values = {"account": account, "now": now}
        with self._database.read() as connection:  # an idle look takes no write lock
            if connection.execute(_ready(), values).first() is None:
                return None
        try:
            with self._database.write() as connection:
                picked = connection.execute(for_update(_ready(), connection), values).scalar()
                if picked is None:
                    return None
                taken = changed(
                    connection,
                    update(deliveries)
                    .where(deliveries.c.id == picked, deliveries.c.state == S.SCHEDULED)
                    .values(
                        state=S.CLAIMED,
                        lease_owner=worker,
                        lease_until=now + timings.lease,
                        fence=deliveries.c.fence + 1,
                    ),
                )
                return _delivery(connection.execute(_rows().where(deliveries.c.id == picked)).one()) if taken else None
        except IntegrityError:
            return None

    def intent(self, delivery: Delivery, wire: Wire, worker: str, clock: Clock, timings: Timings) -> Begun | None:
        """Write down that a send begins now, after a last look at everything that may forbid it.

        Return None when it may not be sent: the reason is in the row by then. The wire of the first intent stays:
        every later try sends the same bytes. Raise Stale when the claim is no longer ours.
        """
        with self._database.write() as connection:
            row = _held(connection, delivery, worker)
            now, looked_at = clock.now(), clock.monotonic()
            refused = _last_look(connection, row, now)
            if refused is not None:
                state, reason = refused
                _change(connection, delivery, worker, state=state, reason=reason, **_RELEASED)
                return None
            fixed = row.wire or json.dumps(wire, ensure_ascii=False, sort_keys=True)
            _change(
                connection,
                delivery,
                worker,
                state=S.SENDING,
                wire=fixed,
                tries=deliveries.c.tries + 1,
                lease_until=now + timings.lease,
                key_used_at=row.key_used_at or now,
                reason="",
            )
            body = json.loads(fixed)
            _note(connection, delivery, "intent", clock, body_digest=digest_of(body))
        return Begun(delivery, body, looked_at)

    def release(self, delivery: Delivery, worker: str, clock: Clock, *, again_at: datetime, reason: str) -> None:
        """Give a claimed delivery back unsent."""
        with self._database.write() as connection:
            _change(connection, delivery, worker, state=S.SCHEDULED, next_at=again_at, reason=reason, **_RELEASED)

    def stalled(self, delivery: Delivery, worker: str, clock: Clock) -> None:
        """Give a delivery back because too long passed between the last look and the call. Nothing was sent."""
        with self._database.write() as connection:
            _note(connection, delivery, "stalled", clock)
            _change(
                connection,
                delivery,
                worker,
                state=S.SCHEDULED,
                next_at=clock.now(),
                tries=deliveries.c.tries - 1,
                **_RELEASED,
            )

    # ── Outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def confirm(
        self, delivery: Delivery, worker: str, receipt: Receipt, clock: Clock, *, phase: str = "confirmed"
    ) -> None:
        """Keep the receipt: this delivery is out. When it is the receipt of another delivery, a person is asked."""
        try:
            with self._database.write() as connection:
                _note(connection, delivery, phase, clock)
                _change(connection, delivery, worker, **_published(delivery, receipt, receipt.at or clock.now()))
        except IntegrityError:
            reason = f"The network gave it the receipt of another delivery: {receipt.url or receipt.remote_id}"
            with self._database.write() as connection:
                _note(connection, delivery, "unknown", clock, reason)
                _change(connection, delivery, worker, state=S.NEEDS_HUMAN, reason=reason, **_RELEASED)

    def refused(
        self, delivery: Delivery, worker: str, outcome: NotApplied, clock: Clock, *, again_at: datetime
    ) -> None:
        """Keep that the network surely made nothing, and who has to wait for what."""
        with self._database.write() as connection:
            _note(connection, delivery, "refused", clock, outcome.words, outcome.http_status, outcome.until)
            if outcome.kind == "content":
                _change(connection, delivery, worker, state=S.FAILED, reason=outcome.words, **_RELEASED)
                return
            _change(
                connection, delivery, worker, state=S.SCHEDULED, next_at=again_at, reason=outcome.words, **_RELEASED
            )
            if outcome.kind == "later":
                _close(connection, delivery.account, again_at, outcome.words)
            else:  # a dead key or empty credits hold the account; its posts are kept, not burnt
                switches.pause(
                    connection,
                    "account",
                    delivery.account,
                    by="desk",
                    role="desk",
                    reason=outcome.words,
                    at=clock.now(),
                )

    def unknown(
        self,
        delivery: Delivery,
        worker: str,
        why: str,
        clock: Clock,
        *,
        settle: timedelta,
        http_status: int | None = None,
    ) -> None:
        """Keep that the post may be there. Nobody sends it again before somebody has looked."""
        now = clock.now()
        with self._database.write() as connection:
            _note(connection, delivery, "unknown", clock, why, http_status)
            _change(connection, delivery, worker, **_unconfirmed(now, settle, why))

    def fail(self, delivery_id: str, reason: str) -> None:
        """Keep that a scheduled delivery can never go out as it was approved (its picture changed, say)."""
        with self._database.write() as connection:
            _move(
                connection,
                and_(deliveries.c.id == delivery_id, deliveries.c.state == S.SCHEDULED),
                S.FAILED,
                reason,
            )

    def postpone(self, delivery_id: str, at: datetime, again_at: datetime, reason: str) -> None:
        """Let one due delivery wait for what it needs (its picture, say); others of its account go on."""
        with self._database.write() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery_id, deliveries.c.state == S.SCHEDULED, deliveries.c.next_at <= at)
                .values(next_at=again_at, reason=storable(reason))
            )

    def close(self, account: str, until: datetime, reason: str) -> None:
        """Let an account rest until a moment; other accounts go on."""
        with self._database.write() as connection:
            _close(connection, account, until, reason)

    # ── Recovery ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def recover(self, account: str, clock: Clock, *, settle: timedelta, dead_workers: Collection[str] = ()) -> int:
        """End the leases that ran out, and those of workers known to be dead. Return how many.

        A claimed delivery was surely not sent; a sending one perhaps, so it is looked up first. A look-up that a dead
        worker began is begun again.
        """
        now = clock.now()
        mine = deliveries.c.account == account
        orphaned = deliveries.c.lease_owner.in_(list(dead_workers))
        over = and_(mine, or_(deliveries.c.lease_until < now, orphaned))
        half_looked_up = and_(mine, orphaned, deliveries.c.state == S.UNCONFIRMED)
        held = or_(half_looked_up, and_(over, deliveries.c.state.in_([S.CLAIMED, S.SENDING])))
        with self._database.read() as connection:
            if connection.execute(select(deliveries.c.id).where(held).limit(1)).first() is None:
                return 0
        with self._database.write() as connection:
            back = changed(
                connection,
                update(deliveries)
                .where(over, deliveries.c.state == S.CLAIMED)
                .values(state=S.SCHEDULED, fence=deliveries.c.fence + 1, **_RELEASED),
            )
            lost = changed(
                connection,
                update(deliveries)
                .where(over, deliveries.c.state == S.SENDING)
                .values(
                    fence=deliveries.c.fence + 1, **_unconfirmed(now, settle, "the worker stopped while it was sending")
                ),
            )
            again = changed(
                connection,
                update(deliveries)
                .where(half_looked_up)
                .values(next_at=now, fence=deliveries.c.fence + 1, lease_owner=None),
            )
        return back + lost + again

    def to_look_up(self, account: str, worker: str, clock: Clock, timings: Timings) -> Delivery | None:
        """Take one unconfirmed delivery for a look-up, or None. A dead look-up is taken again after the lease."""
        now = clock.now()
        ready = (
            select(deliveries.c.id)
            .where(deliveries.c.account == account, deliveries.c.state == S.UNCONFIRMED, deliveries.c.next_at <= now)
            .order_by(deliveries.c.next_at)
            .limit(1)
        )
        with self._database.read() as connection:
            if connection.execute(ready).first() is None:
                return None
        with self._database.write() as connection:
            picked = connection.execute(for_update(ready, connection)).scalar()
            if picked is None:
                return None
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id == picked)
                .values(next_at=now + timings.lease, lease_owner=worker, fence=deliveries.c.fence + 1)
            )
            return _delivery(connection.execute(_rows().where(deliveries.c.id == picked)).one())

    def found(self, delivery: Delivery, worker: str, found: Found, clock: Clock) -> None:
        """Keep what the look-up showed: our post is out, or something else stands in its place."""
        if found.same:
            self.confirm(delivery, worker, found.receipt, clock, phase="reconciled")
            return
        with self._database.write() as connection:
            _note(connection, delivery, "reconciled", clock, "other content stands there")
            _change(
                connection,
                delivery,
                worker,
                state=S.NEEDS_HUMAN,
                reason=f"Something else stands in its place: {found.receipt.url or found.receipt.remote_id}",
                **_RELEASED,
            )

    def absent(
        self, delivery: Delivery, worker: str, clock: Clock, timings: Timings, *, keeps_key: timedelta | None
    ) -> None:
        """Keep that the post was not there. After two such looks it goes out under its key, or a person is asked."""
        now = clock.now()
        with self._database.write() as connection:
            _note(connection, delivery, "absent", clock)
            if delivery.absent_seen < 1:
                _change(connection, delivery, worker, absent_seen=1, next_at=now + timings.look_again, lease_owner=None)
                return
            used = delivery.key_used_at or now
            key_holds = keeps_key is not None and (keeps_key == timedelta.max or now < used + keeps_key)
            in_time = delivery.part > 1 or now < delivery.not_after
            if key_holds and in_time:
                _change(
                    connection,
                    delivery,
                    worker,
                    state=S.SCHEDULED,
                    next_at=now,
                    absent_seen=0,
                    reason="it was not there, twice; it goes out again under its key",
                    **_RELEASED,
                )
                return
            reason = "It was not found, twice, " + (
                "and its last moment has passed."
                if key_holds
                else "but this network cannot promise that it is not there. Look for it, then decide."
            )
            _change(connection, delivery, worker, state=S.NEEDS_HUMAN, reason=reason, **_RELEASED)

    def unclear(self, delivery: Delivery, worker: str, why: str, clock: Clock, timings: Timings) -> None:
        """Keep that the look-up itself failed: it proves nothing. After 30 minutes a person is asked."""
        now = clock.now()
        with self._database.write() as connection:
            since = connection.execute(
                select(deliveries.c.unconfirmed_at).where(deliveries.c.id == delivery.id)
            ).scalar()
            if since is not None and now - since > timings.give_up_looking:
                reason = f"Nobody could look whether it is out: {why}"
                _change(connection, delivery, worker, state=S.NEEDS_HUMAN, reason=reason, **_RELEASED)
                return
            _change(connection, delivery, worker, next_at=now + timings.look_again, reason=why, lease_owner=None)

    # ── A person's word ──────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, delivery_id: str, *, by: str, role: str, why: str, clock: Clock) -> None:
        """Take a waiting delivery out of the plan. Raise StateError when it may be out already."""
        self._decide(delivery_id, "cancel", S.CANCELLED, _CANCELLABLE, by=by, role=role, why=why, clock=clock)

    def send_now(self, delivery_id: str, *, by: str, role: str, why: str, clock: Clock, last: timedelta) -> None:
        """Release what was paused, missed or blocked, or send again what nobody found, as one person decides."""
        values = {"next_at": clock.now(), "not_after": clock.now() + last, "absent_seen": 0}
        self._decide(
            delivery_id, "send", S.SCHEDULED, _RELEASABLE, by=by, role=role, why=why, clock=clock, values=values
        )

    def it_is_there(self, delivery_id: str, receipt: Receipt, *, by: str, role: str, why: str, clock: Clock) -> None:
        """Keep a person's word, read back from the network, that the post is out."""
        sent_at = receipt.at or clock.now()
        published = _published(self.get(delivery_id), receipt, sent_at)
        values = {name: published[name] for name in ("remote_id", "remote_url", "remote_cid", "sent_at", "late_ms")}
        try:
            self._decide(
                delivery_id,
                "found",
                S.PUBLISHED,
                (S.NEEDS_HUMAN,),
                by=by,
                role=role,
                why=why,
                clock=clock,
                values=values,
            )
        except IntegrityError as error:
            raise StateError(
                f"{receipt.url or receipt.remote_id} is the receipt of another delivery.", "Look again which is which."
            ) from error

    def _decide(
        self,
        delivery_id: str,
        action: str,
        to: DeliveryState,
        allowed: Sequence[DeliveryState],
        *,
        by: str,
        role: str,
        why: str,
        clock: Clock,
        values: dict[str, object] | None = None,
    ) -> None:
        if role not in APPROVERS:
            raise NotAllowed(f"{by} is {role} and may not decide about a delivery.", "Ask an approver.")
        reason = storable(f"{by}: {why}")
        with self._database.write() as connection:
            delivery = _locked(connection, delivery_id)
            if delivery.state not in allowed:
                raise StateError(
                    f"{delivery_id} is {delivery.state}; it cannot be changed so.", "See `shareasm plan list`."
                )
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery_id)
                .values(state=to, reason=reason, fence=deliveries.c.fence + 1, **_RELEASED, **(values or {}))
            )
            _note(connection, delivery, "decided", clock, f"{action} by {reason}")
            audit.write(
                connection,
                at=clock.now(),
                person=by,
                role=role,
                action=action,
                on=f"delivery:{delivery_id}",
                before=str(delivery.state),
                after=str(to),
                why=why,
            )


_lane, _other, _live = (deliveries.alias(name) for name in ("lane", "other", "live"))
_RELEASED = {"lease_owner": None, "lease_until": None}
_CANCELLABLE = (S.SCHEDULED, S.PAUSED, S.MISSED, S.BLOCKED, S.FAILED, S.NEEDS_HUMAN)
_RELEASABLE = (S.PAUSED, S.MISSED, S.BLOCKED, S.NEEDS_HUMAN)


def _unconfirmed(now: datetime, settle: timedelta, why: str) -> dict[str, object]:
    return {
        "state": S.UNCONFIRMED,
        "next_at": now + settle,
        "absent_seen": 0,
        "unconfirmed_at": now,
        "reason": why,
        **_RELEASED,
    }


def _published(delivery: Delivery, receipt: Receipt, sent_at: datetime) -> dict[str, object]:
    return {
        "state": S.PUBLISHED,
        "remote_id": receipt.remote_id,
        "remote_cid": receipt.cid,
        "remote_url": receipt.url,
        "sent_at": sent_at,
        "late_ms": max(0, round((sent_at - delivery.due_at) / timedelta(milliseconds=1))),
        "reason": "",
        **_RELEASED,
    }


def _change(connection: Connection, delivery: Delivery, worker: str, **values: object) -> None:
    """Change a delivery under its fence. Raise Stale when it is no longer ours."""
    if isinstance(values.get("reason"), str):
        values["reason"] = storable(str(values["reason"]))
    if not changed(
        connection,
        update(deliveries)
        .where(deliveries.c.id == delivery.id, deliveries.c.fence == delivery.fence, deliveries.c.lease_owner == worker)
        .values(**values),
    ):
        raise Stale


def _move(connection: Connection, where, to, reason) -> None:
    """Move deliveries that nobody holds; state and reason may be expressions over their own columns."""
    reason = storable(reason) if isinstance(reason, str) else reason
    connection.execute(
        update(deliveries).where(where).values(state=to, reason=reason, fence=deliveries.c.fence + 1, **_RELEASED)
    )


def _pause(connection: Connection, where) -> None:
    """Hold what a switch covers, and say which switch."""
    on = switch_rows.c
    reason = (
        select("paused by " + on.by + ": " + on.reason)
        .where(on.off_at.is_(None), campaigns.c.id == deliveries.c.campaign_id, switches.covers())
        .order_by(on.id)
        .limit(1)
        .correlate(deliveries)
        .scalar_subquery()
    )
    _move(connection, and_(where, reason.is_not(None)), S.PAUSED, reason)


def _miss(connection: Connection, where, reason: str) -> None:
    """Keep that it is too late, and what was tried. A person is asked, unless the author wanted it left out then."""
    tried = case((deliveries.c.reason != "", reason + ": " + deliveries.c.reason), else_=reason)
    _move(connection, where, case((deliveries.c.if_late == "skip", S.CANCELLED), else_=S.MISSED), tried)


def _note(
    connection: Connection,
    delivery: Delivery,
    phase: str,
    clock: Clock,
    error: str = "",
    http_status: int | None = None,
    reset_at: datetime | None = None,
    body_digest: str = "",
) -> None:
    n = connection.execute(
        select(func.count()).where(attempts.c.delivery_id == delivery.id, attempts.c.phase == "intent")
    ).scalar_one()
    connection.execute(
        insert(attempts).values(
            delivery_id=delivery.id,
            fence=delivery.fence,
            n=n + (phase == "intent"),
            phase=phase,
            error=storable(error)[:2_000],
            http_status=http_status,
            reset_at=reset_at,
            wall_at=clock.now(),
            mono_at=clock.monotonic(),
            body_digest=body_digest,
        )
    )


def _close(connection: Connection, account: str, until: datetime, reason: str) -> None:
    values = {"until": until, "reason": storable(reason)}
    connection.execute(
        upsert(connection, closures)
        .values(account=account, **values)
        .on_conflict_do_update(index_elements=["account"], set_=values)
    )


def _held(connection: Connection, delivery: Delivery, worker: str):
    query = select(deliveries).where(
        deliveries.c.id == delivery.id, deliveries.c.fence == delivery.fence, deliveries.c.lease_owner == worker
    )
    if connection.dialect.name == "postgresql":
        query = query.with_for_update()
    row = connection.execute(query).first()
    if row is None or row.state != S.CLAIMED:
        raise Stale
    return row


def _last_look(connection: Connection, row, now: datetime) -> tuple[DeliveryState, str] | None:
    """Return the state and reason that forbid this send, or None when all is well."""
    switch = switches.covering(connection, row.id)
    if switch is not None:
        return S.PAUSED, f"paused by {switch.by}: {switch.reason}"
    if row.part == 1 and now > row.not_after:
        return S.CANCELLED if row.if_late == "skip" else S.MISSED, LAST_MOMENT_PASSED
    post = connection.execute(
        select(posts.c.state).where(posts.c.campaign_id == row.campaign_id, posts.c.id == row.post_id)
    ).scalar()
    if post != PostState.APPROVED:
        return S.CANCELLED, "its approval is no longer valid"
    if digest_of(json.loads(row.frozen)) != row.frozen_hash:
        return S.FAILED, "the stored record is not the one that was approved"
    closed = connection.execute(
        select(closures).where(closures.c.account == row.account, closures.c.until > now)
    ).first()
    return (S.SCHEDULED, closed.reason) if closed else None


@cache
def _ready() -> Select:
    """Return what may be claimed next on an account, at most one. Built once: it is asked every second."""
    taken = select(_lane.c.id).where(_lane.c.account == bindparam("account"), _lane.c.state.in_([S.CLAIMED, S.SENDING]))
    resting = select(closures.c.account).where(
        closures.c.account == bindparam("account"), closures.c.until > bindparam("now", type_=Moment())
    )
    return (
        select(deliveries.c.id)
        .where(
            deliveries.c.account == bindparam("account"),
            deliveries.c.state == S.SCHEDULED,
            deliveries.c.next_at <= bindparam("now", type_=Moment()),
            ~exists(taken),
            ~_earlier([state for state in S if state != S.PUBLISHED]),
            ~_answered([state for state in S if state not in {S.PUBLISHED, S.CANCELLED}]),
            ~_waits_for_approval(),
            ~exists(resting),
        )
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(1)
    )


def _earlier(states: Collection[DeliveryState], *, sent_before: datetime | None = None):
    """Return the condition that an earlier part of the same thread stands in one of these states.

    A cancelled part counts only when no live row took its place.
    """
    other, live = _other, _live
    condition = and_(
        other.c.campaign_id == deliveries.c.campaign_id,
        other.c.post_id == deliveries.c.post_id,
        other.c.account == deliveries.c.account,
        other.c.part < deliveries.c.part,
        other.c.state.in_([str(state) for state in states]),
        or_(
            other.c.state != S.CANCELLED,
            ~exists(
                select(live.c.id).where(
                    live.c.campaign_id == other.c.campaign_id,
                    live.c.post_id == other.c.post_id,
                    live.c.account == other.c.account,
                    live.c.part == other.c.part,
                    live.c.state != S.CANCELLED,
                )
            ),
        ),
    )
    if sent_before is not None:
        condition = and_(condition, other.c.part == 1, other.c.sent_at < sent_before)
    return exists(select(other.c.id).where(condition))


def _answered(states: Collection[DeliveryState]):
    """Return the condition that the post which a first part replies to stands in one of these states."""
    other = _other
    return and_(
        deliveries.c.reply_to != "",
        deliveries.c.part == 1,
        exists(
            select(other.c.id).where(
                other.c.campaign_id == deliveries.c.campaign_id,
                other.c.post_id == deliveries.c.reply_to,
                other.c.account == deliveries.c.account,
                other.c.part == 1,
                other.c.state.in_([str(state) for state in states]),
            )
        ),
    )


def _waits_for_approval():
    """Return the condition that the post which a first part replies to is not approved, and not out on its account."""
    other = _other
    is_out = exists(
        select(other.c.id).where(
            other.c.campaign_id == deliveries.c.campaign_id,
            other.c.post_id == deliveries.c.reply_to,
            other.c.account == deliveries.c.account,
            other.c.state == S.PUBLISHED,
        )
    )
    return and_(
        deliveries.c.reply_to != "",
        deliveries.c.part == 1,
        exists(
            select(posts.c.id).where(
                posts.c.campaign_id == deliveries.c.campaign_id,
                posts.c.id == deliveries.c.reply_to,
                posts.c.state.in_([PostState.DRAFT, PostState.IN_REVIEW]),
            )
        ),
        ~is_out,
    )


def _root(connection: Connection, delivery: Delivery, post: str) -> Receipt | None:
    """Return the first post of the thread in which a post of ours stands on this delivery's account."""
    root: Receipt | None = None
    met: set[str] = set()
    while post and post not in met:
        met.add(post)
        receipts = _receipts(connection, delivery, post)
        if not receipts:
            break
        root = next(iter(receipts.values()))
        post = connection.execute(
            select(deliveries.c.reply_to)
            .join(campaigns, campaigns.c.id == deliveries.c.campaign_id)
            .where(
                campaigns.c.folder == delivery.campaign,
                deliveries.c.post_id == post,
                deliveries.c.account == delivery.account,
                deliveries.c.state == S.PUBLISHED,
            )
            .order_by(deliveries.c.part)
            .limit(1)
        ).scalar_one()
    return root


def _receipts(connection: Connection, delivery: Delivery, post: str) -> dict[int, Receipt]:
    rows = connection.execute(
        select(deliveries.c.part, deliveries.c.remote_id, deliveries.c.remote_url, deliveries.c.remote_cid)
        .join(campaigns, campaigns.c.id == deliveries.c.campaign_id)
        .where(
            campaigns.c.folder == delivery.campaign,
            deliveries.c.post_id == post,
            deliveries.c.account == delivery.account,
            deliveries.c.state == S.PUBLISHED,
        )
        .order_by(deliveries.c.part)
    )
    return {part: Receipt(remote_id, url or "", cid or "") for part, remote_id, url, cid in rows}


def _locked(connection: Connection, delivery_id: str) -> Delivery:
    query = _rows().where(deliveries.c.id == delivery_id)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update(of=deliveries)
    row = connection.execute(query).first()
    if row is None:
        raise PlanError(f"There is no delivery “{delivery_id}”.", "See `shareasm plan list`.")
    return _delivery(row)


def _rows() -> Select:
    return select(deliveries, campaigns.c.folder).join(campaigns, campaigns.c.id == deliveries.c.campaign_id)


def _delivery(row) -> Delivery:
    receipt = Receipt(row.remote_id, row.remote_url or "", row.remote_cid or "", row.sent_at) if row.remote_id else None
    return Delivery(
        id=row.id,
        campaign=row.folder,
        post=row.post_id,
        account=row.account,
        network=row.network,
        part=row.part,
        of_parts=row.of_parts,
        state=DeliveryState(row.state),
        due_at=row.due_at,
        next_at=row.next_at,
        not_after=row.not_after,
        fence=row.fence,
        frozen=Frozen.from_json(json.loads(row.frozen)),
        frozen_hash=row.frozen_hash,
        wire=json.loads(row.wire) if row.wire else None,
        reason=row.reason,
        receipt=receipt,
        sent_at=row.sent_at,
        late_ms=row.late_ms,
        tries=row.tries,
        absent_seen=row.absent_seen,
        key_used_at=row.key_used_at,
        reply_to=row.reply_to,
        if_late=row.if_late,
    )
