"""Frames: measures as bounded pandas tables, for charts, pages and exports.

Every frame has its columns and types also when it is empty. Moments are UTC (`datetime64[us, UTC]`), counts are `Int64`
with <NA> for what nobody knows, texts are `str`. pandas is imported by the first call, never with this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shareasm.measure.coverage import uncovered
from shareasm.measure.reading import Reading
from shareasm.measure.shares import by_language, by_network
from shareasm.measure.timeline import points
from shareasm.measure.top import contributor_row, post_row
from shareasm.measure.words import network_name

if TYPE_CHECKING:
    import pandas as pd

MOMENT = "datetime64[us, UTC]"
COUNT = "Int64"

_TIMELINE = {
    "at": MOMENT, "until": MOMENT, "network": "str", "name": "str", "spoken": COUNT, "reposts": COUNT,
    "mentions": COUNT, "running": "bool",
}  # fmt: skip
_GAPS = {"from_at": MOMENT, "to_at": MOMENT, "network": "str", "name": "str", "why": "str"}
_OWN = {
    "at": MOMENT, "post": "str", "message": "str", "label": "str", "account": "str", "network": "str", "name": "str",
    "language": "str", "text": "str", "url": "str", "likes": COUNT, "reposts": COUNT, "replies": COUNT,
    "quotes": COUNT, "views": COUNT, "engagements": COUNT,
}  # fmt: skip
_LANGUAGES = {"language": "str", "name": "str", "spoken": COUNT, "share": "Float64"}
_NETWORKS = {
    "network": "str", "name": "str", "spoken": COUNT, "reposts": COUNT, "share": "Float64", "contributors": COUNT,
    "ours": COUNT,
}  # fmt: skip
_CONTRIBUTORS = {
    "network": "str", "handle": "str", "name": "str", "group": "str", "country": "str", "ours": "bool",
    "spoken": COUNT, "reposts": COUNT, "followers": COUNT, "engagements": COUNT, "first_at": MOMENT, "last_at": MOMENT,
}  # fmt: skip
_POSTS = {
    "network": "str", "posted_at": MOMENT, "handle": "str", "text": "str", "language": "str", "url": "str",
    "likes": COUNT, "reposts": COUNT, "replies": COUNT, "quotes": COUNT, "views": COUNT, "engagements": COUNT,
    "ours": "bool",
}  # fmt: skip


def timeline_frame(
    reading: Reading,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    bucket_minutes: int | None = None,
) -> pd.DataFrame:
    """Return mentions by bucket and network, oldest first, at most 1,500 rows. Read-only.

    Columns: at, until (the bucket), network, name, spoken, reposts, mentions (their sum), running (the bucket of now).
    The counts are <NA> where nobody collected.
    """
    rows = [
        {
            "at": p.at, "until": p.until, "network": p.network, "name": network_name(p.network), "spoken": p.spoken,
            "reposts": p.reposts, "mentions": None if p.spoken is None else p.spoken + (p.reposts or 0),
            "running": p.at <= reading.now < p.until,
        }
        for p in points(reading, since=since, until=until, bucket_minutes=bucket_minutes)
    ]  # fmt: skip
    return _frame(rows, _TIMELINE)


def window(reading: Reading) -> tuple[datetime, datetime]:
    """Return the first and last moment that a chart of this campaign shows. Read-only.

    That is the campaign's own time; where no mention falls into it, as in an old collection, that of the mentions.
    """
    start, end = reading.campaign.start, reading.campaign.end
    span = reading.store.figures.span(reading.id)
    if span is None or (span[0] < end and span[1] >= start):
        return start, end
    return span


def gap_frame(reading: Reading, *, since: datetime, until: datetime) -> pd.DataFrame:
    """Return the stretches between two moments that nobody collected, oldest first. Read-only.

    Columns: from_at, to_at, network, name, why.
    """
    rows = [
        {"from_at": gap.from_at, "to_at": gap.to_at, "network": gap.network, "name": network_name(gap.network),
         "why": gap.why}
        for gap in uncovered(reading, since, until)
    ]  # fmt: skip
    return _frame(rows[:500], _GAPS)


def own_posts_frame(reading: Reading) -> pd.DataFrame:
    """Return our published posts with their counts, oldest first, one row per account, at most 500. Read-only.

    Columns: at, post, message, label (its name on a chart), account, network, name, language, text, url, likes,
    reposts, replies, quotes, views, engagements.
    """
    rows = [
        {
            "at": p.at, "post": p.post, "message": p.message, "label": _label(p.message), "account": p.account,
            "network": p.network, "name": network_name(p.network), "language": p.language, "text": p.text,
            "url": p.url, "likes": p.likes, "reposts": p.reposts, "replies": p.replies, "quotes": p.quotes,
            "views": p.views, "engagements": p.engagements,
        }
        for p in reading.store.figures.our_posts(reading.id)
    ]  # fmt: skip
    return _frame(rows, _OWN)


def language_frame(reading: Reading) -> pd.DataFrame:
    """Return spoken posts by language, most first, unsure last. Read-only.

    Columns: language, name, spoken, share (of the spoken posts, in whole percent as 0.62).
    """
    return _frame(by_language(reading) or [], _LANGUAGES)


def network_frame(reading: Reading) -> pd.DataFrame:
    """Return every network that is listened to. Read-only.

    Columns: network, name, spoken, reposts, share (of the spoken posts), contributors, ours (of them).
    """
    return _frame(by_network(reading) or [], _NETWORKS)


def contributor_frame(reading: Reading, *, limit: int = 50, offset: int = 0) -> pd.DataFrame:
    """Return a page of the contributors with the most mentions, at most 500 rows. Read-only.

    Columns: network, handle, name, group, country, ours, spoken, reposts, followers, engagements, first_at, last_at.
    Handle and name are missing where the account asked not to be shown.
    """
    found = reading.store.figures.contributors(reading.id, limit=limit, offset=offset)
    return _frame([contributor_row(one) for one in found], _CONTRIBUTORS)


def post_frame(reading: Reading, *, limit: int = 50) -> pd.DataFrame:
    """Return the posts with the most engagements, at most 500 rows. Read-only.

    Columns: network, posted_at, handle, text, language, url, likes, reposts, replies, quotes, views, engagements, ours.
    Handle, text and url are missing where the account asked not to be shown.
    """
    found = reading.store.figures.top_posts(reading.id, limit=limit)
    return _frame([post_row(one) for one in found], _POSTS)


def _label(message: str) -> str:
    """Return a post's id as words: who-miners-are is "Who miners are"."""
    words = message.replace("-", " ")
    return words[:1].upper() + words[1:]


def _frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    values = {
        name: pd.Series([row[name] for row in rows], dtype=pd.api.types.pandas_dtype(dtype))
        for name, dtype in columns.items()
    }
    return pd.DataFrame(values, columns=list(columns))
