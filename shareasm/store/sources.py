"""Sources: where the conversation is read, how far it is complete, and the gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, or_, select, update

from shareasm.model import Hole
from shareasm.store.engine import Database, changed, storable, upsert
from shareasm.store.tables import campaigns, gaps, sources


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time in which a source may have missed mentions."""

    from_at: datetime | None
    to_at: datetime | None
    why: str
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SourceState:
    """One source as it stands: its cursor, how far it is complete, its open gaps."""

    id: int
    campaign: str
    network: str
    server: str
    query: str
    state: str
    cursor: str | None
    complete_until: datetime | None
    last_ok_at: datetime | None
    last_try_at: datetime | None
    error: str
    gaps: tuple[Gap, ...]


class Sources:
    """The sources of all campaigns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, campaign_id: int, network: str, server: str, query: str, *, state: str = "catching up") -> int:
        """Return the key of this source; make it when it is new. Other hashtags than before open a gap behind them."""
        server, query = storable(server), storable(query)
        with self._database.write() as connection:
            connection.execute(
                upsert(connection, sources)
                .values(campaign_id=campaign_id, network=network, server=server, query=query, state=state)
                .on_conflict_do_nothing()
            )
            row = connection.execute(
                select(sources).where(
                    sources.c.campaign_id == campaign_id, sources.c.network == network, sources.c.server == server
                )
            ).one()
            if query and row.query != query:
                _ask_anew(connection, row, query)
            return row.id

    def lease(self, source_id: int, owner: str, now: datetime, until: datetime) -> bool:
        """Hold this source for one collector; True when it is ours until then."""
        with self._database.write() as connection:
            free = or_(sources.c.lease_owner.is_(None), sources.c.lease_owner == owner, sources.c.lease_until < now)
            return bool(
                changed(
                    connection,
                    update(sources).where(sources.c.id == source_id, free).values(lease_owner=owner, lease_until=until),
                )
            )

    def release(self, source_id: int, owner: str) -> None:
        """Let another collector have it."""
        with self._database.write() as connection:
            connection.execute(
                update(sources)
                .where(sources.c.id == source_id, sources.c.lease_owner == owner)
                .values(lease_owner=None, lease_until=None)
            )

    def cursor(self, source_id: int) -> str | None:
        """Return the cursor behind the last page that was kept. Read-only."""
        with self._database.read() as connection:
            return connection.execute(select(sources.c.cursor).where(sources.c.id == source_id)).scalar()

    def rewind(self, source_id: int) -> None:
        """Forget the cursor, so that the next sweep reads again all that the source still has."""
        with self._database.write() as connection:
            connection.execute(
                update(sources)
                .where(sources.c.id == source_id)
                .values(cursor=None, complete_until=None, state="catching up")
            )

    def failed(self, source_id: int, at: datetime, error: str, *, stopped: bool = False) -> None:
        """Keep that the source could not be read: a gap is open from where it was complete until it is passed over."""
        with self._database.write() as connection:
            row = connection.execute(select(sources).where(sources.c.id == source_id)).one()
            connection.execute(
                update(sources)
                .where(sources.c.id == source_id)
                .values(state="stopped" if stopped else "gap open", error=storable(error)[:500], last_try_at=at)
            )
            still = connection.execute(
                select(gaps.c.id).where(
                    gaps.c.source_id == source_id, gaps.c.to_at.is_(None), gaps.c.closed_at.is_(None)
                )
            ).first()
            if still is None:
                hole = Hole(row.complete_until, None, error, row.cursor or "")
                open_gaps(connection, source_id, [hole], at)

    def states(self, campaign: str | None = None) -> list[SourceState]:
        """Return every source with its open gaps. Read-only."""
        query = select(sources, campaigns.c.folder).join(campaigns, campaigns.c.id == sources.c.campaign_id)
        if campaign is not None:
            query = query.where(campaigns.c.folder == campaign)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(sources.c.network, sources.c.server)).all()
            holes = connection.execute(select(gaps).where(gaps.c.closed_at.is_(None)).order_by(gaps.c.id)).all()
        return [
            SourceState(
                row.id,
                row.folder,
                row.network,
                row.server,
                row.query,
                row.state,
                row.cursor,
                row.complete_until,
                row.last_ok_at,
                row.last_try_at,
                row.error,
                tuple(Gap(g.from_at, g.to_at, g.why) for g in holes if g.source_id == row.id),
            )
            for row in rows
        ]

    def gaps(self, campaign: str) -> list[Gap]:
        """Return every gap of a campaign, closed ones too, oldest first. Read-only."""
        query = (
            select(gaps)
            .join(sources, sources.c.id == gaps.c.source_id)
            .join(campaigns, campaigns.c.id == sources.c.campaign_id)
            .where(campaigns.c.folder == campaign)
            .order_by(gaps.c.id)
        )
        with self._database.read() as connection:
            return [Gap(g.from_at, g.to_at, g.why, g.closed_at) for g in connection.execute(query)]


def _ask_anew(connection: Connection, row, query: str) -> None:
    connection.execute(update(sources).where(sources.c.id == row.id).values(query=query))
    if row.last_ok_at is not None and row.state != "as imported":
        why = f"It was asked for {row.query} until then, and for {query} only afterwards."
        open_gaps(connection, row.id, [Hole(None, row.last_ok_at, why)], row.last_ok_at)


def advance(
    connection: Connection,
    source_id: int,
    at: datetime,
    *,
    cursor: str | None,
    complete_until: datetime | None,
    holes: Sequence[Hole],
) -> None:
    """Move a source on, in the transaction of the rows that stand before its cursor.

    An outage is closed by the page that reads on from where it began: the cursor never skipped it. A hole that the
    source itself reports (its window is shorter than the outage) stays open.
    """
    values: dict[str, object] = {"last_ok_at": at, "last_try_at": at, "error": ""}
    if cursor is not None:
        values["cursor"] = cursor
    if complete_until is not None:
        values["complete_until"] = complete_until
        connection.execute(
            update(gaps)
            .where(gaps.c.source_id == source_id, gaps.c.closed_at.is_(None), gaps.c.to_at.is_(None))
            .values(to_at=at, closed_at=at, closed_by="read on from its cursor")
        )
    open_gaps(connection, source_id, [replace(hole, to_at=hole.to_at or at) for hole in holes], at)
    if complete_until is not None or holes:
        left = connection.execute(
            select(gaps.c.id).where(gaps.c.source_id == source_id, gaps.c.closed_at.is_(None)).limit(1)
        ).first()
        values["state"] = "gap open" if left else _state_at(complete_until, at)
    connection.execute(update(sources).where(sources.c.id == source_id).values(**values))


def open_gaps(connection: Connection, source_id: int, holes: Sequence[Hole], at: datetime) -> None:
    """Write down what may have been missed."""
    for hole in holes:
        connection.execute(
            insert(gaps).values(
                source_id=source_id,
                from_at=hole.from_at,
                to_at=hole.to_at,
                from_cursor=hole.from_cursor,
                to_cursor=hole.to_cursor,
                why=storable(hole.why)[:500],
                opened_at=at,
            )
        )


def _state_at(complete_until: datetime | None, at: datetime) -> str:
    behind = None if complete_until is None else at - complete_until
    return "complete" if behind is not None and behind < timedelta(minutes=2) else "catching up"
