"""Switches: the stop switch. A pause is a row; every send reads them inside its own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, and_, insert, or_, select, true, update
from sqlalchemy.sql.elements import ColumnElement

from shareasm.errors import NotAllowed, StateError
from shareasm.model import Switch
from shareasm.store import audit
from shareasm.store.engine import Database, changed, storable
from shareasm.store.tables import campaigns, deliveries, switches

SCOPES = ("all", "campaign", "network", "account", "language")
APPROVERS = frozenset({"approver", "admin"})


class Switches:
    """The pauses that are on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause(self, scope: str, key: str, *, by: str, role: str, reason: str, at: datetime) -> None:
        """Stop every send of this scope that has not begun. Pausing what is paused already changes nothing.

        Anyone who writes may stop; raise NotAllowed for who may only read.
        """
        if role == "viewer":
            raise NotAllowed(f"{by} is viewer and may not pause.", "Tell somebody who writes posts.")
        with self._database.write() as connection:
            pause(connection, scope, key, by=by, role=role, reason=reason, at=at)

    def resume(self, scope: str, key: str, *, by: str, role: str, reason: str, at: datetime) -> None:
        """Lift a pause. What fell into it stays paused until a person releases it; nothing goes out in a burst.

        Stopping is easy, starting again is considered: raise NotAllowed for who is no approver.
        """
        if role not in APPROVERS:
            raise NotAllowed(f"{by} is {role} and may not lift a pause.", "Ask an approver.")
        with self._database.write() as connection:
            lifted = changed(
                connection,
                update(switches)
                .where(switches.c.scope == scope, switches.c.key == key, switches.c.off_at.is_(None))
                .values(off_by=by, off_at=at),
            )
            if not lifted:
                raise StateError(f"There is no pause on {_words(scope, key)}.", "See `shareasm status`.")
            audit.write(connection, at=at, person=by, role=role, action="resume", on=f"{scope}:{key}", why=reason)

    def on(self) -> list[Switch]:
        """Return the pauses that are on, oldest first. Read-only."""
        with self._database.read() as connection:
            return _on(connection)


def pause(connection: Connection, scope: str, key: str, *, by: str, role: str, reason: str, at: datetime) -> None:
    """Stop a scope inside the transaction of what made it necessary (a refused key, credits gone)."""
    already = connection.execute(
        select(switches.c.id).where(switches.c.scope == scope, switches.c.key == key, switches.c.off_at.is_(None))
    ).first()
    if already is None:
        row = {"scope": scope, "key": key, "by": storable(by), "at": at, "reason": storable(reason)}
        connection.execute(insert(switches).values(row))
        audit.write(connection, at=at, person=by, role=role, action="pause", on=f"{scope}:{key}", why=reason)


def covering(connection: Connection, delivery_id: str) -> Switch | None:
    """Return a pause that covers this delivery, as it stands inside this transaction."""
    row = connection.execute(
        select(*_columns())
        .select_from(switches)
        .join(deliveries, deliveries.c.id == delivery_id)
        .join(campaigns, campaigns.c.id == deliveries.c.campaign_id)
        .where(switches.c.off_at.is_(None), covers())
        .limit(1)
    ).first()
    return Switch(*row) if row else None


def covers() -> ColumnElement[bool]:
    """Return the condition under which a row of `switches` covers a row of `deliveries` and its campaign."""
    return or_(
        switches.c.scope == "all",
        and_(switches.c.scope == "campaign", switches.c.key == campaigns.c.folder),
        and_(switches.c.scope == "network", switches.c.key == deliveries.c.network),
        and_(switches.c.scope == "account", switches.c.key == deliveries.c.account),
        and_(switches.c.scope == "language", switches.c.key == deliveries.c.language),
    )


def _on(connection: Connection) -> list[Switch]:
    rows: Sequence = connection.execute(
        select(*_columns()).where(true(), switches.c.off_at.is_(None)).order_by(switches.c.id)
    ).all()
    return [Switch(*row) for row in rows]


def _columns():
    return (switches.c.id, switches.c.scope, switches.c.key, switches.c.by, switches.c.at, switches.c.reason)


def _words(scope: str, key: str) -> str:
    return "everything" if scope == "all" else f"{scope} {key}"
