"""Times: many local times, as people type them, to one moment in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shareasm.desk import known_zone
from shareasm.errors import ConfigError, PlanError

_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?", re.ASCII)
_DURATION = re.compile(r"(\d{1,4}) ?(m|min|minutes?|h|hours?|d|days?)", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def zone(name: str) -> ZoneInfo:
    """Return the time zone. Raise PlanError, with the nearest name, when there is none of this name."""
    try:
        return ZoneInfo(known_zone(name))
    except ConfigError as error:
        raise PlanError(error.happened, error.what_to_do) from error


def read_moment(typed: str, zone_name: str) -> datetime:
    """Return the moment, in UTC, that `YYYY-MM-DDTHH:MM` means in the zone; with an offset the zone is not asked.

    Raise PlanError when it is no time, when the clocks jump over it, and when it comes twice.
    """
    words = typed.strip()
    if not _MOMENT.fullmatch(words):
        raise PlanError(f"“{typed}” is not a time.", "Write it as 2015-06-25T08:00.")
    try:
        moment = datetime.fromisoformat(words)
        return moment.astimezone(UTC) if moment.tzinfo else to_utc(moment, zone_name)
    except (ValueError, OverflowError) as error:
        raise PlanError(f"“{typed}” is not in the calendar.", "Look at day and hour.") from error


def to_utc(local: datetime, zone_name: str) -> datetime:
    """Return the one moment, in UTC, at which clocks in the zone show this naive time.

    Raise PlanError when they never show it or show it twice, naming what to write instead.
    """
    tz = zone(zone_name)
    first, second = (local.replace(tzinfo=tz, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first.astimezone(UTC)
    if first.astimezone(UTC) < second.astimezone(UTC):
        raise PlanError(
            f"{_say(local)} comes twice in {zone_name}, because the clocks go back.",
            f"Write {_with_offset(first)} or {_with_offset(second)}.",
        )
    before, after = _edges(second.astimezone(UTC), first.astimezone(UTC), tz)
    raise PlanError(
        f"{_say(local)} does not exist in {zone_name}: the clocks jump from {_say(before)} to {_say(after)}.",
        f"Write {_with_offset(second)} or {_with_offset(first)}.",
    )


def read_duration(typed: str) -> timedelta:
    """Return the length of time that `30m`, `2h` or `1d` says. Raise PlanError when it says none."""
    found = _DURATION.fullmatch(typed.strip())
    if not found or int(found[1]) == 0:
        raise PlanError(f"“{typed}” is not a length of time.", "Write it as 30m, 2h or 1d.")
    return int(found[1]) * _UNITS[found[2][0]]


def read_not_after(typed: str, due_at: datetime, zone_name: str) -> timedelta:
    """Return how long after `due_at` a post may still go out, from a length of time or a moment."""
    if not _MOMENT.fullmatch(typed.strip()):
        return read_duration(typed)
    allowed = read_moment(typed, zone_name) - due_at
    if allowed <= timedelta(0):
        raise PlanError(f"not_after “{typed}” is not after publish_at.", "Move one of them.")
    return allowed


def _edges(earlier: datetime, later: datetime, tz: ZoneInfo) -> tuple[datetime, datetime]:
    """Return what the clocks show before and after their jump, which lies between two moments."""
    before, after = earlier.astimezone(tz).utcoffset(), later.astimezone(tz).utcoffset()
    while later - earlier > timedelta(seconds=1):
        middle = earlier + timedelta(seconds=(later - earlier) // timedelta(seconds=2))
        if middle.astimezone(tz).utcoffset() == before:
            earlier = middle
        else:
            later = middle
    jump = later.replace(tzinfo=None)
    return jump + (before or timedelta(0)), jump + (after or timedelta(0))


def _say(local: datetime) -> str:
    return f"{local:%H:%M} on {local.day} {local:%B %Y}"


def _with_offset(moment: datetime) -> str:
    """Return the moment as a clock of the zone shows it, with the offset that leaves no doubt."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo).isoformat(timespec="minutes")
