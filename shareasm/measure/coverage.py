"""Coverage: how far the conversation is complete, as words and as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shareasm.measure.reading import Reading
from shareasm.measure.words import counted, network_name
from shareasm.store.sources import SourceState

IMPORTED = "as imported"
PARTIAL = "partial by nature"
PARTIAL_NETWORKS = frozenset({"mastodon"})
"""No Mastodon server knows every post: complete means that these servers were read without a gap."""

SEPARATOR = " · "


@dataclass(frozen=True, slots=True)
class Missing:
    """A stretch in which mentions of a network may be missing, with the reason. None is an end that nobody knows."""

    network: str
    server: str
    from_at: datetime | None
    to_at: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One source as the coverage names it."""

    network: str
    server: str
    state: str
    complete_until: datetime | None
    why: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far one figure is complete. `words` is the line that stands beside it."""

    complete_until: datetime | None
    gaps: tuple[Missing, ...]
    sources: tuple[SourceLine, ...]
    words: str

    @property
    def is_open(self) -> bool:
        """Return True while mentions may be missing: a figure over it is a lower bound and carries ≥."""
        return bool(self.gaps) or any(source.state == "stopped" for source in self.sources)

    def and_of(self, words: str) -> Coverage:
        """Return this coverage with a measure's own, as "5 of 6 posts", behind it."""
        return replace(self, words=SEPARATOR.join(part for part in (self.words, words) if part))

    def as_json(self) -> dict[str, Any]:
        """Return the coverage as plain values; moments stay moments."""
        return {
            "words": self.words,
            "complete_until": self.complete_until,
            "gaps": [
                {"network": g.network, "server": g.server, "from": g.from_at, "to": g.to_at, "why": g.why}
                for g in self.gaps
            ],
            "sources": [
                {"network": s.network, "server": s.server, "state": s.state, "complete_until": s.complete_until,
                 "why": s.why}
                for s in self.sources
            ],
        }  # fmt: skip


def coverage_of(reading: Reading) -> Coverage:
    """Return how far this campaign is complete. Read-only."""
    live = [source for source in reading.sources if source.state != IMPORTED]
    moments = [source.complete_until for source in live]
    until = min((at for at in moments if at), default=None) if all(moments) else None
    gaps = tuple(
        Missing(source.network, source.server, gap.from_at, gap.to_at, gap.why)
        for source in live
        for gap in source.gaps
    )
    lines = tuple(
        SourceLine(source.network, source.server, _state(source), source.complete_until, source.error)
        for source in reading.sources
    )
    return Coverage(until, gaps, lines, _words(reading, live, until))


def uncovered(reading: Reading, since: datetime, until: datetime) -> list[Missing]:
    """Return the stretches between two moments that no source of a network has passed over, oldest first.

    They are the open gaps that all sources of a network share, and the time behind the last moment that one of them
    reached: silence and outage never look alike. Networks that were only imported have none. Read-only.
    """
    end = min(until, reading.now)
    found: list[Missing] = []
    for network in reading.networks:
        live = [s for s in reading.sources if s.network == network and s.state != IMPORTED]
        if live:
            stretches = _shared([_stretches_of(source, since, end) for source in live])
            found.extend(Missing(network, "", start, stop, why) for start, stop, why in stretches)
    return sorted(found, key=lambda missing: (missing.from_at or since, missing.network))


def _stretches_of(source: SourceState, since: datetime, until: datetime) -> list[tuple[datetime, datetime, str]]:
    stretches = [(gap.from_at or since, gap.to_at or until, gap.why) for gap in source.gaps]
    reached = source.complete_until or since
    late = until - reached > timedelta(minutes=5) and not any(stop >= until for _, stop, _ in stretches)
    if late:
        stretches.append((reached, until, source.error or "not collected yet"))
    clipped = [(max(start, since), min(stop, until), why) for start, stop, why in stretches]
    return [(start, stop, why) for start, stop, why in clipped if start < stop]


def _shared(sources: Sequence[Sequence[tuple[datetime, datetime, str]]]) -> list[tuple[datetime, datetime, str]]:
    """Return the stretches that every one of these sources misses."""
    shared = list(sources[0])
    for other in sources[1:]:
        pairs = [(max(a, c), min(b, d), why) for a, b, why in shared for c, d, _ in other]
        shared = [(start, stop, why) for start, stop, why in pairs if start < stop]
    return shared


def _state(source: SourceState) -> str:
    is_partial = source.network in PARTIAL_NETWORKS and source.state == "complete"
    return PARTIAL if is_partial else source.state


def _words(reading: Reading, live: Sequence[SourceState], until: datetime | None) -> str:
    if not reading.sources:
        return "Nothing collected yet"
    parts: list[str] = []
    if until is not None:
        parts.append(f"Complete until {_moment(until, reading.now)}")
    elif live:
        parts.append("Not complete yet")
    for network in reading.networks:
        servers = [source for source in live if source.network == network]
        if servers:
            parts.append(f"{network_name(network)}: {_network_words(servers, reading.now)}")
    files = {source.server for source in reading.sources if source.state == IMPORTED}
    if files:
        parts.append(f"imported: {counted(len(files), 'file')}")
    return SEPARATOR.join(parts)


def _network_words(servers: Sequence[SourceState], now: datetime) -> str:
    stopped = [source for source in servers if source.state == "stopped"]
    gaps = [gap for source in servers for gap in source.gaps]
    said: list[str] = [counted(len(servers), "server")] if len(servers) > 1 else []
    if stopped:
        why = f" ({stopped[0].error})" if stopped[0].error else ""
        said.append((f"{len(stopped)} stopped" if len(servers) > 1 else "stopped") + why)
    if gaps:
        known = [(gap.to_at or now) - gap.from_at for gap in gaps if gap.from_at]
        said.append(counted(len(gaps), "gap") + (f", {_length(sum(known, timedelta(0)))}" if known else ""))
    elif any(source.state in {"catching up", "gap open"} for source in servers):
        said.append("catching up")
    if servers[0].network in PARTIAL_NETWORKS or any(source.state == PARTIAL for source in servers):
        said.append(PARTIAL)
    elif not stopped and not gaps and "catching up" not in said:
        said.append("complete")
    return ", ".join(said)


def _length(length: timedelta) -> str:
    minutes = max(1, round(length / timedelta(minutes=1)))
    return f"{minutes} min" if minutes < 120 else f"{round(minutes / 60)} h"


def _moment(at: datetime, now: datetime) -> str:
    """Return the moment in UTC, with its day where that is not today's."""
    day = "" if at.date() == now.date() else f"{at.day} {at:%B} " if at.year == now.year else f"{at.day} {at:%B %Y} "
    return f"{day}{at:%H:%M} UTC"
