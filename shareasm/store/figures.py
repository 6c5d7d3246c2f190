"""Figures: the small tables that measures are made of, read from the rollups and never from the mentions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import msgspec
from sqlalchemy import Connection, cast, exists, func, select

from shareasm.store.engine import Database, micros, moment
from shareasm.store.tables import (
    authors,
    campaigns,
    deliveries,
    mentions,
    posts,
    r_author,
    r_post,
    r_reach,
    r_share,
    r_time,
)

MAX_ROWS = 500
MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class ShareRow:
    """Posts of one network, language and kind, with the sums of their counts and how many of them have each count.

    `kind` is a mention's kind, or "carried" (an original known only through its reposts), or "conversation".
    """

    network: str
    language: str
    kind: str
    posts: int
    deleted: int
    likes: int
    reposts: int
    replies: int
    quotes: int
    views: int
    n_likes: int
    n_reposts: int
    n_replies: int
    n_quotes: int
    n_views: int
    n_counts: int


@dataclass(frozen=True, slots=True)
class ReachRow:
    """The contributors of one network and group, ours apart, with the sums of their followers."""

    network: str
    group_name: str
    ours: bool
    authors: int
    speaking: int
    only_reposting: int
    followers_sum: int
    followers_max: int
    followers_known: int
    followers_only_reposting: int


@dataclass(frozen=True, slots=True)
class TimeRow:
    """Mentions of one network in one bucket of time."""

    at: datetime
    network: str
    spoken: int
    reposts: int
    conversation: int


@dataclass(frozen=True, slots=True)
class DayRow:
    """Mentions of one network on one local day of the campaign."""

    day: date
    network: str
    spoken: int
    reposts: int
    conversation: int


@dataclass(frozen=True, slots=True)
class ContributorRow:
    """One contributor with what they added."""

    author_id: int
    network: str
    handle: str
    name: str
    group_name: str
    country: str
    ours: bool
    spoken: int
    reposts: int
    first_at: datetime
    last_at: datetime
    followers: int | None
    engagements: int
    may_be_named: bool


@dataclass(frozen=True, slots=True)
class PostRow:
    """One mention with its counts, for lists of top posts."""

    network: str
    native_id: str
    handle: str
    text: str
    language: str
    posted_at: datetime
    url: str
    likes: int | None
    reposts: int | None
    replies: int | None
    quotes: int | None
    views: int | None
    engagements: int | None
    age_s: int
    ours: bool
    may_be_named: bool


@dataclass(frozen=True, slots=True)
class OwnPostRow:
    """The first part of one of our posts as one account published it. Counts are None where the network gave none."""

    at: datetime
    post: str
    message: str
    account: str
    network: str
    language: str
    text: str
    url: str
    likes: int | None
    reposts: int | None
    replies: int | None
    quotes: int | None
    views: int | None
    engagements: int | None


class Figures:
    """Reads of the rollups, each bounded and each for one campaign."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def campaign_id(self, folder: str) -> int | None:
        """Return the key of a campaign's folder, None when it was never synced. Read-only."""
        with self._database.read() as connection:
            return connection.execute(select(campaigns.c.id).where(campaigns.c.folder == folder)).scalar()

    def shares(self, campaign_id: int) -> list[ShareRow]:
        """Return posts and counts by network, language and kind, over all days. Read-only."""
        names = [c.name for c in r_share.columns if c.name not in {"campaign_id", "day", "network", "language", "kind"}]
        query = (
            select(
                r_share.c.network, r_share.c.language, r_share.c.kind,
                *(cast(func.sum(r_share.c[name]), r_share.c[name].type).label(name) for name in names),
            )
            .where(r_share.c.campaign_id == campaign_id)
            .group_by(r_share.c.network, r_share.c.language, r_share.c.kind)
            .order_by(r_share.c.network, r_share.c.language, r_share.c.kind)
        )  # fmt: skip
        with self._database.read() as connection:
            return [
                ShareRow(
                    network=row.network, language=row.language, kind=row.kind,
                    **{name: int(getattr(row, name)) for name in names},
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def reach(self, campaign_id: int) -> list[ReachRow]:
        """Return contributors and follower sums by network and group. Read-only."""
        query = (
            select(r_reach)
            .where(r_reach.c.campaign_id == campaign_id)
            .order_by(r_reach.c.network, r_reach.c.group_name)
        )
        with self._database.read() as connection:
            return [
                ReachRow(
                    row.network, row.group_name, row.ours, row.authors, row.speaking, row.only_reposting,
                    row.followers_sum, row.followers_max, row.followers_known, row.followers_only_reposting,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def largest(self, campaign_id: int, *, limit: int = 5, network: str | None = None) -> list[tuple[str, int]]:
        """Return the greatest follower counts with their network, largest first. Read-only."""
        query = (
            select(r_author.c.network, r_author.c.followers)
            .where(r_author.c.campaign_id == campaign_id, r_author.c.followers.is_not(None))
            .order_by(r_author.c.followers.desc())
            .limit(min(limit, MAX_ROWS))
        )
        if network is not None:
            query = query.where(r_author.c.network == network)
        with self._database.read() as connection:
            return [(row.network, row.followers) for row in connection.execute(query)]

    def timeline(
        self,
        campaign_id: int,
        *,
        bucket_minutes: int,
        shift_minutes: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[TimeRow]:
        """Return mentions by network in buckets of so many minutes, oldest first. Empty buckets have no row.

        Buckets begin at whole multiples since 1970 in UTC, moved back by `shift_minutes`: 30 gives whole hours in
        India. Read-only.
        """
        bucket = (r_time.c.minute + shift_minutes) // bucket_minutes
        query = (
            select(
                bucket.label("bucket"), r_time.c.network, func.sum(r_time.c.spoken).label("spoken"),
                func.sum(r_time.c.reposts).label("reposts"), func.sum(r_time.c.conversation).label("conversation"),
            )
            .where(r_time.c.campaign_id == campaign_id)
            .group_by(bucket, r_time.c.network)
            .order_by(bucket, r_time.c.network)
        )  # fmt: skip
        if since is not None:
            query = query.where(r_time.c.minute >= micros(since) // MINUTE)
        if until is not None:
            query = query.where(r_time.c.minute < micros(until) // MINUTE)
        with self._database.read() as connection:
            return [
                TimeRow(
                    moment((row.bucket * bucket_minutes - shift_minutes) * MINUTE), row.network, int(row.spoken),
                    int(row.reposts), int(row.conversation),
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def days(self, campaign_id: int) -> list[DayRow]:
        """Return mentions by network and local day of the campaign, oldest first. Read-only."""
        query = (
            select(r_share.c.day, r_share.c.network, r_share.c.kind, func.sum(r_share.c.posts).label("posts"))
            .where(r_share.c.campaign_id == campaign_id, r_share.c.kind != "carried")
            .group_by(r_share.c.day, r_share.c.network, r_share.c.kind)
            .order_by(r_share.c.day, r_share.c.network)
        )
        sums: dict[tuple[int, str], list[int]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                column = {"repost": 1, "conversation": 2}.get(row.kind, 0)
                sums.setdefault((row.day, row.network), [0, 0, 0])[column] += int(row.posts)
        return [DayRow(date.fromordinal(day), network, *values) for (day, network), values in sums.items()]

    def contributors(self, campaign_id: int, *, limit: int = 50, offset: int = 0) -> list[ContributorRow]:
        """Return the contributors with the most mentions, most first, at most 500 a page. Read-only.

        Who deleted every mention is left out, so a page may be shorter than its limit.
        """
        query = (
            select(r_author, authors.c.handle, authors.c.name, authors.c.may_be_named)
            .join(authors, authors.c.id == r_author.c.author_id)
            .where(r_author.c.campaign_id == campaign_id)
            .order_by((r_author.c.spoken + r_author.c.reposts).desc(), r_author.c.author_id)
            .limit(min(limit, MAX_ROWS))
            .offset(offset)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
            shown = _with_a_mention_left(connection, campaign_id, [row.author_id for row in rows])
            return [
                ContributorRow(
                    row.author_id, row.network, row.handle, row.name, row.group_name, row.country, row.ours, row.spoken,
                    row.reposts, row.first_at, row.last_at, row.followers, row.engagements, row.may_be_named,
                )
                for row in rows
                if row.author_id in shown
            ]  # fmt: skip

    def top_posts(self, campaign_id: int, *, limit: int = 50) -> list[PostRow]:
        """Return the posts with the most engagements, most first, at most 500. Read-only."""
        query = (
            select(mentions, r_post, authors.c.handle, authors.c.may_be_named, r_author.c.ours)
            .select_from(r_post)
            .join(mentions, mentions.c.id == r_post.c.mention_id)
            .join(authors, authors.c.id == mentions.c.author_id)
            .outerjoin(
                r_author, (r_author.c.campaign_id == campaign_id) & (r_author.c.author_id == mentions.c.author_id)
            )
            .where(
                r_post.c.campaign_id == campaign_id, mentions.c.state == "counted", r_post.c.engagements.is_not(None)
            )
            .order_by(r_post.c.engagements.desc(), mentions.c.posted_at)
            .limit(min(limit, MAX_ROWS))
        )
        with self._database.read() as connection:
            return [
                PostRow(
                    row.network, row.native_id, row.handle, row.text, row.language, row.posted_at, row.url, row.likes,
                    row.reposts, row.replies, row.quotes, row.views, row.engagements, row.age_s, bool(row.ours),
                    row.may_be_named,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def our_posts(self, campaign_id: int) -> list[OwnPostRow]:
        """Return our published first parts with their counts as last seen, oldest first, at most 500. Read-only."""
        same_post = (
            (mentions.c.campaign_id == deliveries.c.campaign_id)
            & (mentions.c.network == deliveries.c.network)
            & (mentions.c.native_id == deliveries.c.remote_id)
        )
        d = deliveries.c
        query = (
            select(
                d.sent_at, d.due_at, d.post_id, posts.c.message, d.account, d.network, d.language, d.frozen,
                d.remote_url, r_post,
            )
            .outerjoin(posts, (posts.c.campaign_id == deliveries.c.campaign_id) & (posts.c.id == deliveries.c.post_id))
            .outerjoin(mentions, same_post)
            .outerjoin(
                r_post, (r_post.c.campaign_id == deliveries.c.campaign_id) & (r_post.c.mention_id == mentions.c.id)
            )
            .where(deliveries.c.campaign_id == campaign_id, deliveries.c.state == "published", deliveries.c.part == 1)
            .order_by(func.coalesce(d.sent_at, d.due_at), d.id)
            .limit(MAX_ROWS)
        )  # fmt: skip
        with self._database.read() as connection:
            return [
                OwnPostRow(
                    row.sent_at or row.due_at, row.post_id, row.message or row.post_id, row.account, row.network,
                    row.language, msgspec.json.decode(row.frozen)["text"], row.remote_url or "", row.likes, row.reposts,
                    row.replies, row.quotes, row.views, row.engagements,
                )
                for row in connection.execute(query)
            ]  # fmt: skip

    def span(self, campaign_id: int) -> tuple[datetime, datetime] | None:
        """Return the first and the last minute in which there is a mention; None when there is none. Read-only."""
        query = select(func.min(r_time.c.minute), func.max(r_time.c.minute)).where(
            r_time.c.campaign_id == campaign_id, r_time.c.spoken + r_time.c.reposts > 0
        )
        with self._database.read() as connection:
            first, last = connection.execute(query).one()
        return None if first is None else (moment(first * MINUTE), moment(last * MINUTE))


def _with_a_mention_left(connection: Connection, campaign_id: int, author_ids: list[int]) -> set[int]:
    """Return those of a page's authors who did not delete all they said, each found by one step in the index."""
    left = exists().where(
        mentions.c.campaign_id == campaign_id,
        mentions.c.author_id == r_author.c.author_id,
        mentions.c.state == "counted",
    )
    query = select(r_author.c.author_id).where(
        r_author.c.campaign_id == campaign_id, r_author.c.author_id.in_(author_ids), left
    )
    return set(connection.execute(query).scalars())
