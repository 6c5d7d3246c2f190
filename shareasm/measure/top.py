"""Top: the posts that moved most, and the contributors who said most."""

from __future__ import annotations

from typing import Any

from shareasm.measure.reading import Reading, measure
from shareasm.store.figures import ContributorRow, PostRow

ROWS = 50


@measure(version=1, unit="posts, most engagements first")
def top_posts(reading: Reading) -> list[dict[str, Any]] | None:
    """The 50 posts with the most likes, reposts, replies and quotes together; of equals the earlier one first.

    Deleted posts are never listed. An account that asked not to be shown is counted and has neither name nor text.
    """
    if not reading.is_known:
        return None
    return [post_row(post) for post in reading.store.figures.top_posts(reading.id, limit=ROWS)]


@measure(version=1, unit="accounts, most mentions first")
def top_contributors(reading: Reading) -> list[dict[str, Any]] | None:
    """The 50 accounts with the most mentions, spoken posts and reposts together, ours marked.

    Followers and engagements are as last seen. Who deleted every mention is not listed. An account that asked not to
    be shown has no name here.
    """
    if not reading.is_known:
        return None
    return [contributor_row(one) for one in reading.store.figures.contributors(reading.id, limit=ROWS)]


def post_row(post: PostRow) -> dict[str, Any]:
    """Return one post as a row; without name, text and address where its author does not want to be shown. Pure."""
    named = post.may_be_named
    return {
        "network": post.network,
        "posted_at": post.posted_at,
        "handle": post.handle if named else None,
        "text": post.text if named else None,
        "language": post.language,
        "url": post.url if named else None,
        "likes": post.likes,
        "reposts": post.reposts,
        "replies": post.replies,
        "quotes": post.quotes,
        "views": post.views,
        "engagements": post.engagements,
        "ours": post.ours,
    }


def contributor_row(one: ContributorRow) -> dict[str, Any]:
    """Return one contributor as a row; without names where they do not want to be shown. Pure."""
    return {
        "network": one.network,
        "handle": one.handle if one.may_be_named else None,
        "name": one.name if one.may_be_named else None,
        "group": one.group_name,
        "country": one.country or None,
        "ours": one.ours,
        "spoken": one.spoken,
        "reposts": one.reposts,
        "followers": one.followers,
        # The rollup adds what is known and cannot tell "none" from "nobody told": unknown is the smaller lie.
        "engagements": one.engagements or None,
        "first_at": one.first_at,
        "last_at": one.last_at,
    }
