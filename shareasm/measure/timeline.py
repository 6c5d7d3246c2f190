"""Timeline: when the conversation was held, in buckets that a chart can carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from shareasm.measure.coverage import IMPORTED, Missing, uncovered
from shareasm.measure.reading import Reading, measure
from shareasm.measure.words import in_order

MOST_POINTS = 1_500
MOST_BUCKETS = 192
"""What one chart can show as bars: two days of quarters of an hour, eight days of hours."""

DAY = 1_440
BUCKETS = (1, 15, 60, DAY)
"""Minutes. Above them come whole weeks."""


@dataclass(frozen=True, slots=True)
class Point:
    """Mentions of one network in one bucket. `spoken` and `reposts` are None where nobody collected."""

    at: datetime
    until: datetime
    network: str
    spoken: int | None
    reposts: int | None


@measure(version=1, unit="posts per bucket")
def timeline(reading: Reading) -> list[dict[str, Any]] | None:
    """Mentions over time and by network, spoken posts and reposts apart, at the moment they were posted.

    Buckets are a minute, 15 minutes, an hour, a local day or whole weeks, as the span asks for. A bucket that was
    collected and is empty is 0; one that was not collected is unknown.
    """
    if not reading.is_known:
        return None
    return [
        {"at": point.at, "network": point.network, "spoken": point.spoken, "reposts": point.reposts}
        for point in points(reading)
    ]


def bucket_for(span: timedelta, networks: int) -> int:
    """Return the smallest bucket, in minutes, in which so long a span keeps to 1,500 points and 192 bars. Pure."""
    minutes = span / timedelta(minutes=1) + 1
    for bucket in BUCKETS[:-1]:
        if minutes / bucket + 1 <= MOST_BUCKETS:
            return bucket
    bucket = DAY
    while (minutes / bucket + 2) * max(1, networks) > MOST_POINTS:
        bucket = 7 * DAY if bucket == DAY else 2 * bucket
    return bucket


def points(
    reading: Reading,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    bucket_minutes: int | None = None,
) -> list[Point]:
    """Return every bucket of every network that has mentions, oldest first; at most 1,500.

    Without `since` and `until` the span is that of the mentions. A bucket too small for 1,500 points is made larger.
    Buckets to come are unknown, as are those that nobody collected. Read-only.
    """
    span = reading.store.figures.span(reading.id)
    if span is None:
        return []
    first, last = since or span[0], until or span[1] + timedelta(minutes=1)
    networks = in_order(row.network for row in reading.shares if row.kind not in {"carried", "conversation"})
    bucket = bucket_minutes or bucket_for(last - first, len(networks))
    while ((last - first) / timedelta(minutes=bucket) + 2) * len(networks) > MOST_POINTS:
        bucket = next((larger for larger in BUCKETS if larger > bucket), 2 * bucket)
    counts = _counts(reading, bucket, first, last)
    missing = uncovered(reading, first, last)
    spans = _imported_spans(reading, counts)
    return [
        _point(reading, (at, until), network, counts.get((at, network)), missing, spans)
        for at, until in _buckets(reading, bucket, first, last)
        for network in networks
    ]


def _point(
    reading: Reading,
    bucket: tuple[datetime, datetime],
    network: str,
    counts: tuple[int, int] | None,
    missing: Sequence[Missing],
    imported: dict[str, tuple[datetime, datetime]],
) -> Point:
    at, until = bucket
    if counts is not None:
        return Point(at, until, network, *counts)
    if at >= reading.now:
        covered = False
    elif network in imported:
        covered = imported[network][0] <= at <= imported[network][1]
    else:
        covered = not any(
            gap.network == network and (gap.from_at or at) < until and (gap.to_at or until) > at for gap in missing
        )
    return Point(at, until, network, 0, 0) if covered else Point(at, until, network, None, None)


def _counts(
    reading: Reading, bucket: int, first: datetime, last: datetime
) -> dict[tuple[datetime, str], tuple[int, int]]:
    """Return what was counted, by the begin of its bucket and by network."""
    figures = reading.store.figures
    if bucket < DAY:
        shift = _shift(reading, first)
        rows = figures.timeline(reading.id, bucket_minutes=bucket, shift_minutes=shift, since=first, until=last)
        return {(row.at, row.network): (row.spoken, row.reposts) for row in rows if row.spoken + row.reposts}
    sums: dict[tuple[datetime, str], tuple[int, int]] = {}
    for row in figures.days(reading.id):
        if row.spoken + row.reposts:
            key = (_midnight(reading, _first_day(row.day, bucket)), row.network)
            spoken, reposts = sums.get(key, (0, 0))
            sums[key] = (spoken + row.spoken, reposts + row.reposts)
    return sums


def _buckets(reading: Reading, bucket: int, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the begin and end of each bucket from the first moment to the last."""
    if bucket < DAY:
        length = timedelta(minutes=bucket)
        shift = timedelta(minutes=_shift(reading, first))
        at = _floor(first + shift, length) - shift
        while at < last:
            yield at, at + length
            at += length
        return
    day = _first_day(first.astimezone(reading.zone).date(), bucket)
    while (at := _midnight(reading, day)) < last:
        day += timedelta(days=bucket // DAY)
        yield at, _midnight(reading, day)


def _floor(at: datetime, length: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=at.tzinfo)
    return epoch + (at - epoch) // length * length


def _shift(reading: Reading, at: datetime) -> int:
    """Return how many minutes the campaign's hours begin before those of UTC: 30 in India."""
    offset = at.astimezone(reading.zone).utcoffset() or timedelta(0)
    return offset // timedelta(minutes=1) % 60


def _first_day(day: date, bucket: int) -> date:
    """Return the first day of the bucket: the day itself, or the Monday on which its weeks begin."""
    days = bucket // DAY
    return day if days == 1 else date.fromordinal((day.toordinal() - 1) // days * days + 1)


def _midnight(reading: Reading, day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=reading.zone).astimezone(reading.now.tzinfo)


def _imported_spans(
    reading: Reading, counts: dict[tuple[datetime, str], tuple[int, int]]
) -> dict[str, tuple[datetime, datetime]]:
    """Return, for the networks that were only imported, the first and last bucket with a mention: all that is known."""
    live = {source.network for source in reading.sources if source.state != IMPORTED}
    spans: dict[str, tuple[datetime, datetime]] = {}
    for at, network in counts:
        if network not in live:
            first, last = spans.get(network, (at, at))
            spans[network] = (min(first, at), max(last, at))
    return spans
