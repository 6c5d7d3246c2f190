"""Reading: one campaign at one moment, which every measure is given, and what a measure gives back."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

from shareasm.measure.words import in_order
from shareasm.model import Campaign, utc
from shareasm.store import Store
from shareasm.store.figures import ReachRow, ShareRow
from shareasm.store.sources import SourceState

SPOKEN = frozenset({"original", "reply", "quote"})
COUNTED = SPOKEN | {"repost"}
CARRIED = frozenset({"carried"})

Function = TypeVar("Function", bound=Callable[..., object])


class Reading:
    """One campaign at one moment, as the rollups tell it. Each read is made once, so make a new one for new numbers.

    Raise PlanError when the desk knows no such campaign. Read-only.
    """

    def __init__(self, store: Store, campaign: str, now: datetime) -> None:
        self.store = store
        self.now = utc(now)
        self.campaign: Campaign = store.campaigns.get(campaign)
        self.id: int = store.campaigns.id_of(campaign)
        self.zone = ZoneInfo(self.campaign.time_zone)

    @cached_property
    def shares(self) -> list[ShareRow]:
        """Return posts and counts by network, language and kind."""
        return self.store.figures.shares(self.id)

    @cached_property
    def reach(self) -> list[ReachRow]:
        """Return contributors and follower sums by network and group."""
        return self.store.figures.reach(self.id)

    @cached_property
    def sources(self) -> list[SourceState]:
        """Return every source of the campaign with its open gaps."""
        return self.store.sources.states(self.campaign.folder)

    @cached_property
    def is_known(self) -> bool:
        """Return True once any source or import was read: from then on a 0 is a count and not ignorance."""
        return bool(self.shares) or any(source.last_ok_at for source in self.sources)

    @cached_property
    def networks(self) -> list[str]:
        """Return the networks that are listened to or have mentions, in the order of all charts and tables."""
        found = {source.network for source in self.sources} | {row.network for row in self.shares}
        return in_order(found)

    def knows(self, network: str) -> bool:
        """Return True once a source of this network was read."""
        read = any(source.network == network and source.last_ok_at for source in self.sources)
        return read or any(row.network == network for row in self.shares)

    def posts(self, kinds: Collection[str], network: str | None = None) -> int:
        """Return the number of posts of these kinds, on one network or on all."""
        return sum(row.posts for row in self.shares if row.kind in kinds and network in (None, row.network))


@dataclass(frozen=True, slots=True)
class Figure:
    """What a measure gives back when its value needs its own coverage: "5 of 6 posts"."""

    value: Any
    words: str = ""


@dataclass(frozen=True, slots=True)
class Definition:
    """One measure: its name, its version, its unit, and what it counts in words for staff."""

    name: str
    version: int
    unit: str
    words: str
    take: Callable[[Reading], object]


def measure(*, version: int, unit: str) -> Callable[[Function], Function]:
    """Mark a function as a measure: it takes a Reading and returns a value or a Figure.

    Its docstring is its definition. The version rises when the same mentions would give another value.
    """

    def mark(function: Function) -> Function:
        words = " ".join((function.__doc__ or "").split())
        take = cast("Callable[[Reading], object]", function)
        function.measure = Definition(function.__name__, version, unit, words, take)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return mark
