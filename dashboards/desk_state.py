"""Desk state: the desk that these pages show, what time it is there, and the campaign in the address.

The engine is the only thing that is kept between runs; everything else is read anew, so a restart loses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from shareasm.desk import Desk, read_desk
from shareasm.errors import PlanError
from shareasm.model import Campaign, Limits, WorldClock
from shareasm.store import Store, open_store
from shareasm.store.workers import Pulse

REHEARSAL_SECONDS = 5
DAY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Here:
    """The desk at this moment. `now` is the desk's own time: in a rehearsal what its worker says, else the world's."""

    desk: Desk
    store: Store
    pulse: Pulse
    now: datetime
    rehearsal: bool

    @property
    def refresh_seconds(self) -> int:
        """Return how often a part of a page reads anew: a rehearsal runs faster than the world."""
        return REHEARSAL_SECONDS if self.rehearsal else DAY_SECONDS


class DeskClock:
    """The desk's time as this run of the page knows it, for what a person decides."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        """Return the desk's time."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return WorldClock().monotonic()


def here() -> Here:
    """Return the desk of the folder in SHAREASM_DESK, the current folder by default. Raise DeskError as it is told."""
    desk = read_desk(Path(os.environ.get("SHAREASM_DESK", ".")))
    store = _store(desk.database)
    world = WorldClock(_clock_offset(desk.database)).now()
    pulse = store.workers.pulse(world)
    now = pulse.desk_now if pulse.rehearsal and pulse.desk_now is not None else world
    return Here(desk, store, pulse, now, pulse.rehearsal or _only_practice(desk))


def campaigns(store: Store) -> list[Campaign]:
    """Return the campaigns of the desk, the latest day first."""
    return store.campaigns.all()


def nearest(found: Sequence[Campaign], now: datetime) -> Campaign:
    """Return the campaign that runs now, else the next one, else the last one. Raise PlanError when there is none."""
    if not found:
        raise PlanError("The desk has no campaign yet.", "Run `shareasm plan sync`: it reads scheduled_posts/.")
    ordered = sorted(found, key=lambda campaign: campaign.start)
    running = [campaign for campaign in ordered if campaign.end > now]
    return running[0] if running else ordered[-1]


def limits_by_network(store: Store, desk: Desk) -> dict[str, Limits]:
    """Return what each network of the desk accepts, as the worker last read it; the strictest where servers differ."""
    found: dict[str, Limits] = {}
    for account, limits in store.workers.limits().items():
        network = desk.networks.get(account)
        if network and (network not in found or limits.text < found[network].text):
            found[network] = limits
    return found


def utc_now() -> datetime:
    """Return this moment of the world."""
    return datetime.now(UTC)


def _only_practice(desk: Desk) -> bool:
    return bool(desk.accounts) and set(desk.networks.values()) == {"practice"}


def _close(store: Store) -> None:
    store.close()


@st.cache_resource(show_spinner=False, max_entries=4, on_release=_close)
def _store(url: str) -> Store:
    return open_store(url)


@st.cache_data(show_spinner=False, ttl=600)
def _clock_offset(url: str):
    return _store(url).database.clock_offset()
