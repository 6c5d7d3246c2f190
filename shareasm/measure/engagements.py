"""Engagements: what others did with the posts, each post counted once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from shareasm.measure.reading import CARRIED, SPOKEN, Figure, Reading, measure
from shareasm.measure.words import counted
from shareasm.store.figures import ShareRow

COUNTS = ("likes", "reposts", "replies", "quotes")


@measure(version=1, unit="actions")
def engagements(reading: Reading) -> Figure:
    """Likes, reposts, replies and quotes of the distinct posts, each post once, as its network last told them.

    A repost adds nothing of its own: its likes are those of the original. An original that we know only through its
    reposts is in the total and is listed apart as carried in. A count that no network gave is unknown and not 0, so
    the sum says of how many posts it knows. Bookmarks and views are never included.
    """
    if not reading.is_known:
        return Figure(None)
    value = _sums(reading.shares, SPOKEN | CARRIED)
    value["carried_in"] = _sums(reading.shares, CARRIED)
    return Figure(value, f"{value['posts']:,} of {counted(value['of_posts'], 'post')}")


def _sums(shares: Sequence[ShareRow], kinds: Collection[str]) -> dict[str, Any]:
    """Add up each count over the posts that have it; what no post has is None."""
    rows = [row for row in shares if row.kind in kinds]
    known = {name: sum(getattr(row, f"n_{name}") for row in rows) for name in COUNTS}
    sums = {name: sum(getattr(row, name) for row in rows) if known[name] else None for name in COUNTS}
    told = [value for value in sums.values() if value is not None]
    return {
        "total": sum(told) if told else None,
        **sums,
        "posts": sum(max(getattr(row, f"n_{name}") for name in COUNTS) for row in rows),
        "of_posts": sum(row.posts for row in rows),
        "known": known,
    }
