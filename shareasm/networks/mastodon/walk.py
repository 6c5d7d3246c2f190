"""Walk: one round up a timeline, and the cursor behind it.

Posts that reach a server late get ids from the time at which they were written and so land below what was read. Each
round therefore begins two minutes back, at the `anchor`; what is `known` from there on is not shown twice, and what is
known and no longer there was deleted, or lost its hashtag by an edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shareasm.networks.mastodon.line import id_of, text_of
from shareasm.networks.mastodon.look_up import made_at

OVERLAP = timedelta(minutes=2)

Row = Mapping[str, Any]


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A post that was read: its id here, when it was made, its `uri` and its last edit."""

    id: str
    at: float
    uri: str
    edited: str


class Trail(msgspec.Struct, frozen=True):
    """How far one timeline was read: everything up to `anchor`, and after it what is `known`."""

    anchor: str = ""
    known: tuple[Known, ...] = ()


Trails = dict[str, Trail]


def trails_of(cursor: str | None) -> Trails:
    """Return what the cursor says; none, or one that nobody can read, begins again with the campaign."""
    try:
        return msgspec.json.decode(cursor or "{}", type=Trails)
    except msgspec.MsgspecError:
        return {}


def cursor_of(trails: Trails) -> str:
    """Return the cursor that stands behind these trails."""
    return msgspec.json.encode(trails).decode()


class Walk:
    """One round up one timeline, from its anchor to its newest post."""

    def __init__(self, trail: Trail, now: datetime) -> None:
        self.position = trail.anchor
        self._anchor, self._now = trail.anchor, now
        self._before = {one.id: one for one in trail.known}
        self._read: list[Known] = []
        self._met = {trail.anchor} if trail.anchor else set[str]()

    def take(self, rows: Sequence[Row]) -> list[Row]:
        """Go on over one page, oldest first, and return what is new in it or was edited."""
        fresh: list[Row] = []
        for row in rows:
            one = self._known(row)
            if one.id in self._met:
                continue
            self._met.add(one.id)
            self._read.append(one)
            self.position = one.id
            before = self._before.get(one.id)
            if before is None or before.edited != one.edited:
                fresh.append(row)
        return fresh

    def above_anchor(self, top: Sequence[Row]) -> list[Row] | None:
        """Return what stands above the anchor on the newest page, None where the anchor is not on it."""
        place = next((place for place, row in enumerate(top) if id_of(row.get("id")) == self._anchor), None)
        return list(top[:place]) if self._anchor and place is not None else None

    def has_met(self, rows: Sequence[Row]) -> bool:
        """Return True when this round has met all of these."""
        return not any(self.is_new(row) for row in rows)

    def meets(self, rows: Sequence[Row]) -> bool:
        """Return True when one of these was met, now or in a round before."""
        return any(local in self._met or local in self._before for row in rows if (local := id_of(row.get("id"))))

    def is_new(self, row: Row) -> bool:
        """Return True for a post that this round has not met."""
        local = id_of(row.get("id"))
        return bool(local) and local not in self._met

    def trail(self) -> Trail:
        """Return how far it is read. What was known and not met yet stays known: it may come."""
        passed = next((place for place, one in enumerate(self._read) if one.at > self._horizon), len(self._read))
        anchor = self._read[passed - 1].id if passed else self._anchor
        ahead = [one for one in self._before.values() if one.id not in self._met]
        return Trail(anchor, (*self._read[passed:], *ahead))

    def vanished(self) -> list[Known]:
        """Return what was known and is no longer there, once the walk is over."""
        return [one for one in self._before.values() if one.id not in self._met]

    def forget(self, one: Known, *, at_last: bool = False) -> None:
        """Do not look for it again; `at_last` keeps it for as long as it belongs into the overlap."""
        if not at_last or one.at <= self._horizon:
            del self._before[one.id]

    @property
    def _horizon(self) -> float:
        return (self._now - OVERLAP).timestamp()

    def _known(self, row: Row) -> Known:
        # A time in the future would hold the anchor back for ever.
        made = min(made_at(row) or self._now, self._now)
        uri, edited = text_of(row.get("uri")), text_of(row.get("edited_at"))
        return Known(id_of(row.get("id")), made.timestamp(), uri, edited)
