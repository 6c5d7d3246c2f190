"""Workers: who is alive, what happened, and what the worker keeps for others (limits, uploads)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, insert, select, update

from shareasm.model import Limits
from shareasm.store.engine import Database, storable, upsert
from shareasm.store.tables import closures, events, limits, media_ready, workers

ALIVE_FOR = timedelta(seconds=10)
"""A worker beats each second; one that was silent for longer is not counted on."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process: the machine (its boot) and the process, so that another one can tell whether it is gone."""

    id: str
    machine: str
    pid: int
    pid_started: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the latest heartbeat says: whether a worker is alive, and what the desk's time is."""

    alive: bool
    seen_at: datetime | None
    desk_now: datetime | None
    rehearsal: bool


class Workers:
    """Heartbeats and events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(
        self, worker: Worker, *, world: datetime, desk_now: datetime, rehearsal: bool, offset: timedelta = timedelta(0)
    ) -> None:
        """Say that this worker lives, and what time it is for the desk."""
        values = {
            "beat_at": world,
            "desk_now": desk_now,
            "rehearsal": rehearsal,
            "clock_offset_ms": round(offset / timedelta(milliseconds=1)),
        }
        with self._database.write() as connection:
            if connection.execute(update(workers).where(workers.c.id == worker.id).values(**values)).rowcount:
                return
            connection.execute(
                insert(workers).values(
                    id=worker.id,
                    machine=worker.machine,
                    pid=worker.pid,
                    pid_started=worker.pid_started,
                    started_at=world,
                    **values,
                )
            )

    def leave(self, worker: Worker) -> None:
        """Say good-bye: this worker ended by itself and holds nothing any more."""
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker.id))

    def all(self) -> list[Worker]:
        """Return every worker that did not say good-bye. Read-only."""
        with self._database.read() as connection:
            rows = connection.execute(select(workers.c.id, workers.c.machine, workers.c.pid, workers.c.pid_started))
            return [Worker(*row) for row in rows]

    def pulse(self, world: datetime) -> Pulse:
        """Return the latest heartbeat. Read-only."""
        with self._database.read() as connection:
            row = connection.execute(select(workers).order_by(workers.c.beat_at.desc()).limit(1)).first()
        if row is None:
            return Pulse(alive=False, seen_at=None, desk_now=None, rehearsal=False)
        alive = world - row.beat_at < ALIVE_FOR
        return Pulse(alive=alive, seen_at=row.beat_at, desk_now=row.desk_now, rehearsal=row.rehearsal)

    def note(self, kind: str, words: str, at: datetime) -> None:
        """Write down something that a person may want to know later."""
        with self._database.write() as connection:
            connection.execute(insert(events).values(at=at, kind=kind, words=storable(words)[:2_000]))

    def notes(self, limit: int = 100) -> list[tuple[datetime, str, str]]:
        """Return the latest events, newest first. Read-only."""
        query = select(events.c.at, events.c.kind, events.c.words).order_by(events.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [(row.at, row.kind, row.words) for row in connection.execute(query)]

    def closed(self, at: datetime) -> dict[str, tuple[datetime, str]]:
        """Return the accounts that rest at this moment, until when and why. Read-only."""
        query = select(closures).where(closures.c.until > at)
        with self._database.read() as connection:
            return {row.account: (row.until, row.reason) for row in connection.execute(query)}

    def keep_limits(self, account: str, value: Limits, at: datetime) -> None:
        """Keep what this account's server accepts, for checks that may not ask it."""
        with self._database.write() as connection:
            values = {"value": msgspec.json.encode(value).decode(), "read_at": at}
            connection.execute(
                upsert(connection, limits)
                .values(account=account, **values)
                .on_conflict_do_update(index_elements=["account"], set_=values)
            )

    def limits(self) -> dict[str, Limits]:
        """Return what each account's server accepts, as last read. Read-only."""
        with self._database.read() as connection:
            rows = connection.execute(select(limits.c.account, limits.c.value))
            return {row.account: msgspec.json.decode(row.value, type=Limits) for row in rows}

    def keep_ready(self, delivery_id: str, place: int, ready: Mapping[str, object], at: datetime) -> None:
        """Keep what the upload of a delivery's picture gave, so that the send itself is one small request."""
        with self._database.write() as connection:
            values = {"ready": json.dumps(ready), "prepared_at": at}
            connection.execute(
                upsert(connection, media_ready)
                .values(delivery_id=delivery_id, place=place, **values)
                .on_conflict_do_update(index_elements=["delivery_id", "place"], set_=values)
            )

    def ready(self, delivery_id: str, *, since: datetime) -> dict[int, dict[str, object]]:
        """Return a delivery's uploads by their place, as far as they were made since then. Read-only."""
        query = select(media_ready.c.place, media_ready.c.ready).where(
            media_ready.c.delivery_id == delivery_id, media_ready.c.prepared_at >= since
        )
        with self._database.read() as connection:
            return {row.place: json.loads(row.ready) for row in connection.execute(query)}
