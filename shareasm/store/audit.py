"""Audit: who did what, when and why, in a chain in which no row can be changed or dropped unseen."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from shareasm.store.engine import Database, micros, storable
from shareasm.store.tables import audit

FIRST = "0" * 64
_CHAIN_LOCK = 7_308_332


def write(
    connection: Connection,
    *,
    at: datetime,
    person: str,
    role: str,
    action: str,
    on: str,
    before: str = "",
    after: str = "",
    why: str = "",
) -> None:
    """Append one act, in the transaction of the act: what cannot be audited does not happen."""
    if connection.dialect.name == "postgresql":  # one writer of the chain at a time; SQLite has one writer anyway
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _CHAIN_LOCK})
    last = connection.execute(select(audit.c.hash).order_by(audit.c.id.desc()).limit(1)).scalar()
    row = {
        "at": at,
        "person": storable(person),
        "role": role,
        "action": action,
        "object": storable(on),
        "before": before,
        "after": after,
        "why": storable(why),
        "prev_hash": last or FIRST,
    }
    connection.execute(insert(audit).values(**row, hash=_hash(row)))


def first_broken(database: Database) -> int | None:
    """Return the id of the first row that does not fit the chain; None when all of it is whole. Read-only."""
    previous = FIRST
    with database.read() as connection:
        for found in connection.execute(select(audit).order_by(audit.c.id)).mappings():
            row = dict(found)
            if row["prev_hash"] != previous or row["hash"] != _hash(row):
                return int(row["id"])
            previous = row["hash"]
    return None


def _hash(row: dict[str, object]) -> str:
    at = row["at"]
    kept = {key: value for key, value in row.items() if key not in {"id", "hash", "at"}}
    kept["at"] = micros(at) if isinstance(at, datetime) else at
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
