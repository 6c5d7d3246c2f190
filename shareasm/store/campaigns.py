"""Campaigns: the days of this desk."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from shareasm.errors import PlanError
from shareasm.model import Campaign
from shareasm.store.engine import Database
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
            known = connection.execute(select(campaigns.c.id).where(campaigns.c.folder == campaign.folder)).scalar()
            if known is None:
                added = connection.execute(
                    insert(campaigns).values(folder=campaign.folder, **values).returning(campaigns.c.id)
                )
                return added.scalar_one()
            connection.execute(update(campaigns).where(campaigns.c.id == known).values(**values))
            return known

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
