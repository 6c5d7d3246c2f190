"""twarc2: the answers of X's API v2, as twarc2 and its kin keep them.

One line is a page (`data` a list), a stream line (`data` one post, `matching_rules`), a flattened post (its author
inside), or holds no post: counts per hour, compliance, accounts, errors. A whole file that is one JSON array or a
printed object reads the same. Posts in `includes` are context: originals, parents, what is quoted.
Both vocabularies of X are read: `edit_history_tweet_ids` and `edit_history_post_ids`, `tweet_count` and `post_count`.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import BinaryIO

import msgspec
from msgspec import Raw, Struct

from shareasm.archives import Batch, Fault
from shareasm.archives._json import LONGEST_RECORD, Text, Unreadable, decoded, is_given, list_of, or_none, texts
from shareasm.errors import ArchiveError
from shareasm.model import Author, Counted, Counts, Kind, Removed, Seen, utc

NAME = "twarc2"

BATCH_RECORDS = 500
BATCH_BYTES = 4 * 1024**2

_BOM = b"\xef\xbb\xbf"
_NOTHING = Raw()
_NOT_A_LANGUAGE = frozenset({"und", "zxx", "art"})
_MOST = 2**53
_DEEPEST = 3
"""A flattened repost of a quote of a reply shows three posts inside it. Nothing asks for more."""


def recognises(head: bytes) -> bool:
    """Return True for a page, a stream line, a post, counts, compliance or accounts of X, and for an empty file.

    twarc2 leaves an empty file where nothing was found.
    """
    if not head.removeprefix(_BOM).strip():
        return True
    if any(mark in head for mark in _MARKS_OF_OTHERS):
        return False
    for text in islice(texts(io.BytesIO(head)), 20):
        try:
            return _looks_like_ours(decoded(text.body, _Line))
        except Unreadable:
            continue
    # The first page alone can be longer than the head.
    return bool(_BEGIN_OF_PAGE.match(head)) and any(mark in head for mark in _MARKS)


def read(content: BinaryIO) -> Iterator[Batch]:
    """Yield every post with its line. One broken record is one Fault, whatever it holds, and costs nothing else.

    A batch ends with the line that brings it to 500 records.
    """
    batch = _Batch()
    try:
        for text in texts(content):
            batch.bytes_read += text.size
            _read_text(text, batch)
            if batch.is_full():
                yield batch.closed()
                batch = _Batch()
    except ArchiveError:  # the content is damaged from here on; what came before it counts
        yield batch.closed()
        raise
    if not batch.is_empty():
        yield batch.closed()


# What X sends. Every field may be missing or null; what is not named here stays in the raw record alone.

_Id = str | int


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
    hashtags: list[_Tag | None] | None = None
    mentions: list[_Named | None] | None = None
    urls: list[_Address | None] | None = None


class _Medium(Struct):
    media_key: str | None = None


class _Attachments(Struct):
    media_keys: list[str | None] | None = None
    media: list[_Medium | None] | None = None


class _Twarc(Struct):
    retrieved_at: datetime | None = None


class _Record(Struct):
    """A post; with other fields filled, an account, an hour of counts, a compliance line."""

    id: _Id | None = None
    type: str | None = None
    text: str | None = None
    created_at: datetime | None = None
    author_id: _Id | None = None
    author: _User | None = None
    in_reply_to_user: _User | None = None
    conversation_id: _Id | None = None
    lang: str | None = None
    edit_history_tweet_ids: list[_Id] | None = None
    edit_history_post_ids: list[_Id] | None = None
    referenced_tweets: list[Raw] | None = None
    referenced_posts: list[Raw] | None = None
    entities: _Entities | None = None
    attachments: _Attachments | None = None
    public_metrics: _Metrics | None = None
    username: str | None = None
    name: str | None = None
    action: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    tweet_count: int | None = None
    post_count: int | None = None


class _Line(_Record):
    """A line: a page, or a record with nothing around it."""

    data: Raw = _NOTHING
    includes: Raw = _NOTHING
    errors: Raw = _NOTHING
    meta: Raw = _NOTHING
    matching_rules: Raw = _NOTHING
    twarc: _Twarc | None = msgspec.field(default=None, name="__twarc")


class _Includes(Struct):
    users: list[Raw] | None = None
    tweets: list[Raw] | None = None
    posts: list[Raw] | None = None


class _Error(Struct):
    title: str | None = None
    detail: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class _Post:
    record: _Record
    raw: bytes
    id: str
    history: tuple[str, ...]
    references: tuple[tuple[str, str], ...]
    shown: tuple[_Post, ...] = ()
    """The posts that stand inside a flattened one."""

    @property
    def native_id(self) -> str:
        """The id of the first version: on X every edit is a new id of the same post."""
        return self.history[0] if self.history else self.id

    @property
    def is_replaced(self) -> bool:
        return bool(self.history) and self.id != self.history[-1]

    def id_of(self, *types: str) -> str:
        return next((id_ for type_, id_ in self.references if type_ in types), "")


@dataclass(slots=True)
class _Around:
    """What came with a post: accounts, other posts, and when."""

    retrieved_at: datetime | None = None
    live: bool = False
    users: dict[str, _User] = field(default_factory=dict)
    ids_of_names: dict[str, str] = field(default_factory=dict)
    posts: dict[str, _Post] = field(default_factory=dict)

    def add_user(self, user: _User | None) -> None:
        if user is not None and user.id is not None:
            self.users.setdefault(str(user.id), user)
            if user.username:
                self.ids_of_names.setdefault(user.username.lower(), str(user.id))

    def add_post(self, post: _Post) -> None:
        self.posts.setdefault(post.id, post)
        self.add_user(post.record.author)
        self.add_user(post.record.in_reply_to_user)
        for shown in post.shown:
            self.add_post(shown)

    def native_id_of(self, id_: str) -> str:
        post = self.posts.get(id_)
        return post.native_id if post else id_


@dataclass(slots=True)
class _Batch:
    """The batch that is being filled."""

    seen: list[Seen] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    context: list[Seen] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    bytes_read: int = 0

    def is_full(self) -> bool:
        records = len(self.seen) + len(self.removed) + len(self.counted) + len(self.faults)
        return records >= BATCH_RECORDS or self.bytes_read >= BATCH_BYTES

    def is_empty(self) -> bool:
        return not self.bytes_read

    def closed(self) -> Batch:
        return Batch(
            seen=self.seen,
            lines=self.lines,
            context=self.context,
            removed=self.removed,
            counted=self.counted,
            faults=self.faults,
            bytes_read=self.bytes_read,
        )


def _read_text(text: Text, batch: _Batch) -> None:
    if not text.body and not text.too_long:
        return
    try:
        if text.too_long:
            raise Unreadable(f"This record is longer than {LONGEST_RECORD // 1024**2} MiB: it is no page of X.")
        line = decoded(text.body, _Line)
        if is_given(line.data):
            _read_page(line, text.line, batch)
        elif _is_around(line):
            _read_without_posts(line)
        else:
            _read_alone(line, text, batch)
    except Unreadable as why:
        batch.faults.append(Fault(text.line, str(why)))


def _read_page(line: _Line, number: int, batch: _Batch) -> None:
    raws = decoded(line.data, list[Raw]) if memoryview(line.data)[:1] == b"[" else [line.data]
    records: list[_Record | _Post] = []
    for raw in raws:
        try:
            records.append(_post_or_record(decoded(raw, _Record), bytes(raw)))
        except Unreadable as why:
            batch.faults.append(Fault(number, str(why)))
    posts = [record for record in records if isinstance(record, _Post)]
    around = _around_of(line, posts)
    ours = {post.id for post in posts}
    batch.context.extend(_context_of((post for id_, post in around.posts.items() if id_ not in ours), around))
    for record in records:
        _keep(record, around, number, batch)


def _read_alone(line: _Line, text: Text, batch: _Batch) -> None:
    """Read a line that is one record with nothing around it: a flattened post, an hour, a deletion, an account."""
    record = _post_or_record(line, text.body)
    posts = [record] if isinstance(record, _Post) else []
    around = _around_of(line, posts)
    batch.context.extend(_context_of((post for post in around.posts.values() if post is not record), around))
    _keep(record, around, text.line, batch)


def _read_without_posts(line: _Line) -> None:
    """Accept a page with no results. Raise what the network said where it sent an error and nothing else."""
    errors = [decoded(raw, _Error) for raw in list_of(line.errors)]
    if errors and not is_given(line.includes) and not is_given(line.meta):
        words = errors[0].detail or errors[0].title or "without words"
        more = f" And {len(errors) - 1} more." if len(errors) > 1 else ""
        raise Unreadable(f"No post, only an error of the network: {words[:200]}{more}")


def _keep(record: _Record | _Post, around: _Around, number: int, batch: _Batch) -> None:
    try:
        if isinstance(record, _Post):
            batch.seen.append(_seen_of(record, around, live=around.live))
            batch.lines.append(number)
        elif _posts_in_hour(record) is not None:
            batch.counted.append(_counted_of(record))
        elif record.action is not None and record.id is not None:
            if record.action == "delete":
                batch.removed.append(Removed("x", str(record.id)))
        elif record.username is None and record.name is None:
            raise Unreadable("This record is no post, account, count or deletion that X sends.")
    except Unreadable as why:
        batch.faults.append(Fault(number, str(why)))


def _post_or_record(record: _Record, raw: bytes) -> _Record | _Post:
    is_post = record.text is not None or record.author_id is not None or record.author is not None
    return _post_of(record, raw) if is_post and record.username is None else record


def _post_of(record: _Record, raw: bytes, depth: int = 0) -> _Post:
    if record.id is None or record.id == "":
        raise Unreadable("This post has no id that can be read.")
    history = tuple(str(id_) for id_ in record.edit_history_tweet_ids or record.edit_history_post_ids or () if id_)
    references: list[tuple[str, str]] = []
    shown: list[_Post] = []
    for reference in record.referenced_tweets or record.referenced_posts or ():
        try:
            other = decoded(reference, _Record)
        except Unreadable:
            continue  # as if X had not told it
        if other.type and other.id:
            references.append((other.type, str(other.id)))
            if other.text is not None and depth < _DEEPEST:
                shown.append(_post_of(other, bytes(reference), depth + 1))
    id_ = str(record.id)
    return _Post(record, raw, id_, history if id_ in history else (), tuple(references), tuple(shown))


def _around_of(line: _Line, posts: Iterable[_Post]) -> _Around:
    around = _Around(_moment(line.twarc.retrieved_at) if line.twarc else None, live=is_given(line.matching_rules))
    if is_given(line.includes):
        includes = or_none(line.includes, _Includes) or _Includes()
        for raw in includes.users or ():
            around.add_user(or_none(raw, _User))
        for raw in includes.tweets or includes.posts or ():
            record = or_none(raw, _Record)
            if record is not None and record.id:
                around.add_post(_post_of(record, bytes(raw)))
    for post in posts:
        around.add_post(post)
        if around.live and around.retrieved_at is None:
            around.retrieved_at = _moment(post.record.created_at)
    return around


def _context_of(posts: Iterable[_Post], around: _Around) -> Iterator[Seen]:
    for post in posts:
        try:
            yield _seen_of(post, around)
        except Unreadable:
            continue  # an original that cannot be read is a missing one: its counts stay unknown


def _seen_of(post: _Post, around: _Around, *, live: bool = False) -> Seen:
    record = post.record
    created_at = _moment(record.created_at)
    if created_at is None:
        raise Unreadable("This post has no time that can be read.")
    first = around.posts.get(post.native_id)
    user = record.author or around.users.get(str(record.author_id))
    author = _author_of(user, record)
    kind, of_id = _kind_of(post)
    reposted = around.posts.get(of_id) if kind == "repost" else None
    entities = record.entities or _Entities()
    return Seen(
        network="x",
        native_id=post.native_id,
        author=author,
        kind=kind,
        posted_at=(first and _moment(first.record.created_at)) or created_at,
        text=html.unescape(record.text or ""),  # X escapes & < > and nothing else; the raw record keeps it as sent
        language=_language_of(record.lang),
        tags=_tags_of(entities, reposted),
        links=_distinct(url.unwound_url or url.expanded_url or url.url for url in entities.urls or () if url),
        of_id=around.native_id_of(of_id),
        reply_to_id=around.native_id_of(post.id_of("replied_to")),
        quote_of_id=around.native_id_of(post.id_of("quoted")),
        root_id=_root_of(post, around),
        mentions=_mentions_of(entities, around),
        media=_media_of(record.attachments),
        url=f"https://x.com/{author.handle or 'i'}/status/{post.id}",
        counts=_counts_of(post, kind),
        counts_at=created_at if live else around.retrieved_at,
        edited_at=created_at if post.id != post.native_id else None,
        public=not (user and user.protected),
        raw=post.raw,
    )


def _author_of(user: _User | None, record: _Record) -> Author:
    native_id = record.author_id if user is None or user.id is None else user.id
    if not native_id:
        raise Unreadable("This post does not say who wrote it.")
    if user is None:
        return Author(str(native_id))
    metrics = user.public_metrics or _Metrics()
    posts = metrics.tweet_count if metrics.tweet_count is not None else metrics.post_count
    return Author(
        native_id=str(native_id),
        handle=user.username or "",
        name=user.name or "",
        created_at=_moment(user.created_at),
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
    """Return the counts that belong to this post.

    A repost has none: X writes 0 likes and the original's reposts on it. A version that was edited away has none
    either: its numbers stand still while those of the post go on.
    """
    metrics = post.record.public_metrics
    if metrics is None or kind == "repost" or post.is_replaced:
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
    original = (reposted and reposted.record.entities) or _Entities()
    return _distinct(tag.tag for tag in (*(original.hashtags or ()), *(entities.hashtags or ())) if tag)


def _mentions_of(entities: _Entities, around: _Around) -> tuple[str, ...]:
    named = [account for account in entities.mentions or () if account]
    return _distinct(
        str(account.id) if account.id else around.ids_of_names.get((account.username or "").lower(), account.username)
        for account in named
    )


def _media_of(attachments: _Attachments | None) -> tuple[str, ...]:
    if attachments is None:
        return ()
    return _distinct(attachments.media_keys or (medium.media_key for medium in attachments.media or () if medium))


def _root_of(post: _Post, around: _Around) -> str:
    root = str(post.record.conversation_id or "")
    return post.native_id if root in post.history else around.native_id_of(root)


def _language_of(lang: str | None) -> str:
    """Return the language, or nothing for X's codes that name none: und, qme (media), qst (short text), qht (tags)…"""
    code = lang or ""
    return "" if code in _NOT_A_LANGUAGE or (len(code) == 3 and code.startswith("q")) else code


def _counted_of(record: _Record) -> Counted:
    start, end, posts = _moment(record.start), _moment(record.end), _count(_posts_in_hour(record))
    if start is None or end is None or posts is None:
        raise Unreadable("This count has no start, end or number that can be read.")
    return Counted("x", start, end, posts)


def _posts_in_hour(record: _Record) -> int | None:
    return record.tweet_count if record.tweet_count is not None else record.post_count


def _count(number: int | None) -> int | None:
    return number if number is not None and 0 <= number <= _MOST else None


def _moment(value: datetime | None) -> datetime | None:
    try:
        return utc(value) if value else None
    except (ValueError, OverflowError):  # no zone; or, in its zone, before the year 1
        return None


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def _is_around(line: _Line) -> bool:
    """True for a page without posts: what stands around them, or an error in their place."""
    is_record = any(getattr(line, name) is not None for name in _Record.__struct_fields__)
    return not is_record and bool(line.data or line.includes or line.errors or line.meta or line.twarc)


# What the file says of itself

_MARKS_OF_OTHERS = (b'"4CAT_metadata"', b'"__import_meta"', b'"OrderedCollection"')
_BEGIN_OF_PAGE = re.compile(rb'(?:\xef\xbb\xbf)?\s*\[?\s*\{\s*"(data|includes|meta|errors|matching_rules|__twarc)"')
_MARKS = (b'"public_metrics"', b'"edit_history_', b'"author_id"', b'"conversation_id"', b'"tweet_count"')
_ADDRESS_OF_AN_ERROR = re.compile(r"https?://api\.(twitter|x)\.com/")


def _looks_like_ours(line: _Line) -> bool:
    if line.twarc is not None:
        return True
    if is_given(line.data):
        raws = list_of(line.data) or [line.data]
        first = or_none(raws[0], _Record)
        return first is not None and _is_record_of_x(first)
    if line.errors and not line.text:
        errors = (or_none(raw, _Error) for raw in list_of(line.errors))
        return any(error and error.type and _ADDRESS_OF_AN_ERROR.match(error.type) for error in errors)
    has_author = line.author_id is not None or (line.author is not None and line.author.username is not None)
    return _is_record_of_x(line) and (line.text is None or has_author or bool(line.edit_history_tweet_ids))


def _is_record_of_x(record: _Record) -> bool:
    if _posts_in_hour(record) is not None:
        return record.start is not None and record.end is not None
    if not str(record.id or "").isdecimal():
        return False
    is_account = record.username is not None and (record.name is not None or record.public_metrics is not None)
    is_deletion = record.action is not None and record.created_at is not None
    return record.text is not None or is_account or is_deletion
