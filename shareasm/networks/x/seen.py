"""Seen: what X's search shows, as rows of ours. Equal to what an archive of the same answers gives.

Both of X's vocabularies are read: `edit_history_tweet_ids` and `edit_history_post_ids`, `tweet_count` and `post_count`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from shareasm.model import Author, Counts, Kind, Seen, utc
from shareasm.networks.x import NETWORK

TWEET_FIELDS = (
    "attachments,author_id,conversation_id,created_at,edit_history_tweet_ids,entities,lang,public_metrics,"
    "referenced_tweets"
)
USER_FIELDS = "created_at,name,protected,public_metrics,username"
EXPANSIONS = "author_id,referenced_tweets.id"
"""Each account and each post that comes along is paid for. Whom a text names, and the author of what it quotes, come
with the post as ids: that is enough for ties."""

_NOT_A_LANGUAGE = frozenset({"und", "zxx", "art"})
_MOST = 2**53
_Id = str | int
_Shape = TypeVar("_Shape")


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer of search or look-up: its rows, what stood around them, and what could not be read."""

    seen: Sequence[Seen] = ()
    context: Sequence[Seen] = ()
    unreadable: int = 0
    next_token: str = ""
    not_found: Sequence[str] = ()
    not_allowed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many posts X counts in a stretch of time."""

    start: datetime
    end: datetime
    posts: int


class Unreadable(Exception):
    """The answer is no page of X. Carries why."""


class _Metrics(Struct):
    like_count: int | None = None
    retweet_count: int | None = None
    repost_count: int | None = None
    reply_count: int | None = None
    quote_count: int | None = None
    bookmark_count: int | None = None
    impression_count: int | None = None
    followers_count: int | None = None
    following_count: int | None = None
    tweet_count: int | None = None
    post_count: int | None = None


class _User(Struct):
    id: _Id | None = None
    username: str | None = None
    name: str | None = None
    created_at: datetime | None = None
    protected: bool | None = None
    public_metrics: _Metrics | None = None


class _Tag(Struct):
    tag: str | None = None


class _Named(Struct):
    id: _Id | None = None
    username: str | None = None


class _Address(Struct):
    url: str | None = None
    expanded_url: str | None = None
    unwound_url: str | None = None


class _Entities(Struct):
    hashtags: list[_Tag] | None = None
    mentions: list[_Named] | None = None
    urls: list[_Address] | None = None


class _Medium(Struct):
    media_key: str | None = None


class _Attachments(Struct):
    media_keys: list[str] | None = None
    media: list[_Medium] | None = None


class _Reference(Struct):
    type: str | None = None
    id: _Id | None = None


class _Record(Struct):
    id: _Id
    created_at: datetime
    author_id: _Id
    text: str = ""
    conversation_id: _Id | None = None
    lang: str | None = None
    edit_history_tweet_ids: list[_Id] | None = None
    edit_history_post_ids: list[_Id] | None = None
    referenced_tweets: list[_Reference] | None = None
    referenced_posts: list[_Reference] | None = None
    entities: _Entities | None = None
    attachments: _Attachments | None = None
    public_metrics: _Metrics | None = None


class _Includes(Struct):
    users: list[Raw] | None = None
    tweets: list[Raw] | None = None
    posts: list[Raw] | None = None


class _Error(Struct):
    type: str = ""
    resource_id: str = ""
    value: str = ""


class _Meta(Struct):
    result_count: int | None = None
    next_token: str | None = None


class _Page(Struct):
    data: list[Raw] | None = None
    includes: _Includes | None = None
    errors: list[_Error] | None = None
    meta: _Meta | None = None


class _Hour(Struct):
    start: datetime
    end: datetime
    tweet_count: int | None = None
    post_count: int | None = None


class _Hours(Struct):
    data: list[_Hour] | None = None
    meta: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Post:
    record: _Record
    raw: bytes
    id: str
    history: tuple[str, ...]
    references: tuple[tuple[str, str], ...]

    @property
    def native_id(self) -> str:
        """The id of the first version: on X every edit is a new id of the same post."""
        return self.history[0] if self.history else self.id

    def id_of(self, *types: str) -> str:
        return next((id_ for type_, id_ in self.references if type_ in types), "")


@dataclass(slots=True)
class _Around:
    """What came with a page: accounts and other posts, and when."""

    at: datetime
    users: dict[str, _User] = field(default_factory=dict)
    posts: dict[str, _Post] = field(default_factory=dict)

    def native_id_of(self, id_: str) -> str:
        post = self.posts.get(id_)
        return post.native_id if post else id_

    def id_of_name(self, name: str) -> str | None:
        return next((id_ for id_, user in self.users.items() if (user.username or "").lower() == name.lower()), None)


def read_page(body: bytes, at: datetime, *, is_search: bool = True) -> Shown:
    """Return the rows of one answer, as X shows it at that moment. Raise Unreadable for what is no page of X.

    A search without `meta`, or one that shows fewer posts than it says, is none: it would look like silence.
    """
    try:
        page = msgspec.json.decode(body, type=_Page)
    except msgspec.DecodeError as fault:
        raise Unreadable(str(fault)) from fault
    if is_search and (page.meta is None or (page.meta.result_count or 0) != len(page.data or ())):
        raise Unreadable("it does not show as many posts as it says")
    around, broken = _Around(at), 0
    ours: list[_Post] = []
    for raw in page.data or ():
        post = _post_of(raw)
        broken += post is None
        ours += [post] if post else []
    for raw in (page.includes.users if page.includes else None) or ():
        user = _or_none(raw, _User)
        if user is not None and user.id is not None:
            around.users.setdefault(str(user.id), user)
    for post in [*map(_post_of, _posts_beside(page.includes)), *ours]:
        if post is not None:
            around.posts.setdefault(post.id, post)
    own = {post.id for post in ours}
    errors = page.errors or ()
    return Shown(
        seen=[_seen_of(post, around) for post in ours],
        context=[_seen_of(post, around) for id_, post in around.posts.items() if id_ not in own],
        unreadable=broken,
        next_token=(page.meta.next_token if page.meta else None) or "",
        not_found=[one.resource_id or one.value for one in errors if one.type.endswith("/resource-not-found")],
        not_allowed=[
            one.resource_id or one.value for one in errors if one.type.endswith("/not-authorized-for-resource")
        ],
    )


def read_counts(body: bytes) -> list[Bucket]:
    """Return X's own counts, oldest first. Raise Unreadable for what is no answer of counts."""
    try:
        hours = msgspec.json.decode(body, type=_Hours)
    except msgspec.DecodeError as fault:
        raise Unreadable(str(fault)) from fault
    if hours.meta is None or hours.meta.get("next_token"):
        raise Unreadable("the counts are not whole")
    buckets = [Bucket(utc(one.start), utc(one.end), one.tweet_count or one.post_count or 0) for one in hours.data or ()]
    return sorted(buckets, key=lambda bucket: bucket.start)


def _posts_beside(includes: _Includes | None) -> Iterable[Raw]:
    return (includes.tweets or includes.posts or ()) if includes else ()


def _post_of(raw: Raw) -> _Post | None:
    record = _or_none(raw, _Record)
    if record is None or not record.id or not record.author_id or record.created_at.tzinfo is None:
        return None
    history = tuple(str(id_) for id_ in record.edit_history_tweet_ids or record.edit_history_post_ids or () if id_)
    found = record.referenced_tweets or record.referenced_posts or ()
    references = tuple((one.type, str(one.id)) for one in found if one.type and one.id)
    return _Post(record, bytes(raw), str(record.id), history if str(record.id) in history else (), references)


def _or_none(raw: Raw, shape: type[_Shape]) -> _Shape | None:
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.DecodeError:
        return None


def _seen_of(post: _Post, around: _Around) -> Seen:
    record = post.record
    first = around.posts.get(post.native_id)
    user = around.users.get(str(record.author_id))
    kind, of_id = _kind_of(post)
    reposted = around.posts.get(of_id) if kind == "repost" else None
    entities = record.entities or _Entities()
    root = str(record.conversation_id or "")
    return Seen(
        network=NETWORK,
        native_id=post.native_id,
        author=_author_of(user, record),
        kind=kind,
        posted_at=utc(first.record.created_at if first else record.created_at),
        text=html.unescape(record.text),  # X escapes & < > and nothing else; the raw record keeps it as sent
        language=_language_of(record.lang),
        tags=_tags_of(entities, reposted),
        links=_distinct(url.unwound_url or url.expanded_url or url.url for url in entities.urls or ()),
        of_id=around.native_id_of(of_id),
        reply_to_id=around.native_id_of(post.id_of("replied_to")),
        quote_of_id=around.native_id_of(post.id_of("quoted")),
        root_id=post.native_id if root in post.history else around.native_id_of(root),
        mentions=_distinct(_named(one, around) for one in entities.mentions or ()),
        media=_media_of(record.attachments),
        url=f"https://x.com/{(user and user.username) or 'i'}/status/{post.id}",
        counts=_counts_of(post, kind),
        counts_at=around.at,
        edited_at=utc(record.created_at) if post.id != post.native_id else None,
        public=not (user and user.protected),
        raw=post.raw,
    )


def _author_of(user: _User | None, record: _Record) -> Author:
    if user is None:
        return Author(str(record.author_id))
    metrics = user.public_metrics or _Metrics()
    posts = metrics.tweet_count if metrics.tweet_count is not None else metrics.post_count
    return Author(
        native_id=str(user.id),
        handle=user.username or "",
        name=user.name or "",
        created_at=utc(user.created_at) if user.created_at and user.created_at.tzinfo else None,
        followers=_count(metrics.followers_count),
        following=_count(metrics.following_count),
        posts=_count(posts),
    )


def _kind_of(post: _Post) -> tuple[Kind, str]:
    """Return the kind, and the id that X names: repost, else reply, else quote, else original."""
    if reposted := post.id_of("retweeted", "reposted"):
        return "repost", reposted
    if replied_to := post.id_of("replied_to"):
        return "reply", replied_to
    if quoted := post.id_of("quoted"):
        return "quote", quoted
    return "original", ""


def _counts_of(post: _Post, kind: Kind) -> Counts:
    """Return the counts of this post: none for a repost, whose numbers are not its own, nor for an old version."""
    metrics = post.record.public_metrics
    is_replaced = bool(post.history) and post.id != post.history[-1]
    if metrics is None or kind == "repost" or is_replaced:
        return Counts()
    reposts = metrics.retweet_count if metrics.retweet_count is not None else metrics.repost_count
    return Counts(
        likes=_count(metrics.like_count),
        reposts=_count(reposts),
        replies=_count(metrics.reply_count),
        quotes=_count(metrics.quote_count),
        bookmarks=_count(metrics.bookmark_count),
        views=_count(metrics.impression_count),
    )


def _tags_of(entities: _Entities, reposted: _Post | None) -> tuple[str, ...]:
    """Return the hashtags. X cuts the text of a repost, and its tags with it: the original's come first."""
    original = (reposted.record.entities if reposted else None) or _Entities()
    return _distinct(tag.tag for tag in (*(original.hashtags or ()), *(entities.hashtags or ())))


def _named(one: _Named, around: _Around) -> str | None:
    return str(one.id) if one.id else around.id_of_name(one.username or "") or one.username


def _media_of(attachments: _Attachments | None) -> tuple[str, ...]:
    if attachments is None:
        return ()
    return _distinct(attachments.media_keys or (medium.media_key for medium in attachments.media or ()))


def _language_of(lang: str | None) -> str:
    """Return the language, or nothing for X's codes that name none: und, qme (media), qst (short text), qht (tags)…"""
    code = lang or ""
    return "" if code in _NOT_A_LANGUAGE or (len(code) == 3 and code.startswith("q")) else code


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= _MOST else None


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
