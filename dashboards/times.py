"""Times: moments as the campaign's clocks show them, with UTC beside them."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


def clock(moment: datetime, zone: str) -> str:
    """Return the hour and minute that clocks in the zone show: “14:05”."""
    return f"{moment.astimezone(ZoneInfo(zone)):%H:%M}"


def day(moment: datetime, zone: str) -> str:
    """Return the local day: “Thu 25 Jun”."""
    local = moment.astimezone(ZoneInfo(zone))
    return f"{local:%a} {local.day} {local:%b}"


def when(moment: datetime, zone: str, now: datetime) -> str:
    """Return the local hour, with its day unless that is today: “14:05” or “Fri 26 Jun, 09:00”."""
    today = moment.astimezone(ZoneInfo(zone)).date() == now.astimezone(ZoneInfo(zone)).date()
    return clock(moment, zone) if today else f"{day(moment, zone)}, {clock(moment, zone)}"


def with_utc(moment: datetime, zone: str) -> str:
    """Return the moment in full, for tooltips: local with its zone, then UTC."""
    local = moment.astimezone(ZoneInfo(zone))
    utc = moment.astimezone(ZoneInfo("UTC"))
    return f"{local.day} {local:%B %Y, %H:%M:%S} {zone} · {utc:%H:%M:%S} UTC"


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago it was: “just now”, “4 min ago”, “3 h ago”, “2 days ago”."""
    passed = now - moment
    if passed < MINUTE:
        return "just now"
    if passed < timedelta(hours=1):
        return f"{passed // MINUTE} min ago"
    if passed < timedelta(days=2):
        return f"{passed // timedelta(hours=1)} h ago"
    return f"{passed.days} days ago"


def until(moment: datetime, now: datetime) -> str:
    """Return how long it still takes: “now”, “in 4 min”, “in 3 h”; for what is past “4 min ago”."""
    left = moment - now
    if left < MINUTE:
        return "now" if left > -MINUTE else ago(moment, now)
    hours, rest = divmod(left, timedelta(hours=1))
    if not hours:
        return f"in {left // MINUTE} min"
    if hours < 6 and rest >= MINUTE:
        return f"in {hours} h {rest // MINUTE} min"
    if left < timedelta(days=2):
        return f"in {hours} h"
    return f"in {left.days} days"


def late(late_ms: int | None) -> str:
    """Return how late something went out, empty when it was in time: “3 min late”."""
    seconds = 0 if late_ms is None else late_ms // 1000
    if seconds <= 2:
        return ""
    return f"{seconds} s late" if seconds < 120 else f"{seconds // 60} min late"


def span(start: datetime, end: datetime, zone: str) -> str:
    """Return the days of a campaign: “25 June 2015”, “2–16 November 2026”."""
    first = start.astimezone(ZoneInfo(zone)).date()
    last = (end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
    if first == last:
        return f"{first.day} {first:%B %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{last.day} {last:%B %Y}"
    return f"{first.day} {first:%b %Y} – {last.day} {last:%b %Y}"


def day_of(now: datetime, start: datetime, end: datetime, zone: str) -> str:
    """Return which day of the campaign it is: “day 2 of 5”, “begins in 3 days”, “ended 2 days ago”."""
    local = ZoneInfo(zone)
    first = start.astimezone(local).date()
    last = (end - timedelta(microseconds=1)).astimezone(local).date()
    if now < start:
        return f"begins {until(start, now)}"
    if now >= end:
        return f"ended {ago(end, now)}"
    return f"day {(now.astimezone(local).date() - first).days + 1} of {(last - first).days + 1}"
