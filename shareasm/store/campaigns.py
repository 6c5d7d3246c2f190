"""Campaigns: the days of this desk."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, select

from shareasm.errors import PlanError
from shareasm.model import Campaign
from shareasm.store.engine import Database, upsert
from shareasm.store.rollups import rebuild
from shareasm.store.tables import campaigns


class Campaigns:
    """The campaigns in the database, by the name of their folder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, campaign: Campaign, at: datetime) -> int:
        """Keep the campaign as its file says now, and return its key."""
        values = {
            "name": campaign.name,
            "start_at": campaign.start,
            "end_at": campaign.end,
            "time_zone": campaign.time_zone,
            "settings": msgspec.json.encode(campaign).decode(),
            "synced_at": at,
        }
        with self._database.write() as connection:
            before = connection.execute(
                select(campaigns.c.time_zone).where(campaigns.c.folder == campaign.folder)
            ).scalar()
            saved = (
                upsert(connection, campaigns)
                .values(folder=campaign.folder, **values)
                .on_conflict_do_update(index_elements=["folder"], set_=values)
            )
            key = connection.execute(saved.returning(campaigns.c.id)).scalar_one()
        if before is not None and before != campaign.time_zone:
            rebuild(self._database, key)  # its days begin at another moment now
        return key

    def all(self) -> list[Campaign]:
        """Return every campaign, the latest day first. Read-only."""
        with self._database.read() as connection:
            rows = connection.execute(select(campaigns.c.settings).order_by(campaigns.c.start_at.desc())).scalars()
            return [msgspec.json.decode(row, type=Campaign) for row in rows]

    def get(self, name: str) -> Campaign:
        """Return the campaign of this folder or name. Raise PlanError, naming those there are, when there is none."""
        with self._database.read() as connection:
            return msgspec.json.decode(self._row(connection, name).settings, type=Campaign)

    def id_of(self, name: str) -> int:
        """Return the key of the campaign of this folder or name. Raise PlanError when there is none."""
        with self._database.read() as connection:
            return int(self._row(connection, name).id)

    def _row(self, connection: Connection, name: str):
        found = connection.execute(
            select(campaigns.c.id, campaigns.c.settings).where(
                (campaigns.c.folder == name) | (func.lower(campaigns.c.name) == name.lower())
            )
        ).first()
        if found is not None:
            return found
        known = ", ".join(connection.execute(select(campaigns.c.folder).order_by(campaigns.c.folder)).scalars())
        raise PlanError(
            f"The desk knows no campaign “{name}”.",
            f"Known are {known}." if known else "Run `shareasm plan sync` first: it reads scheduled_posts/.",
        )
