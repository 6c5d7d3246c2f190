"""Source: X's recent search, read in stretches that X's own counts check, and polled at its living end.

Search gives the newest first, so a stretch is read whole before its first row is given: a cursor never skips. What is
younger than half a minute may still come into the search, so each poll looks back, and what was shown before and is
gone now is asked for by its id: that is how a deletion is heard of.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shareasm.errors import ConfigError, NetworkError, RateLimited
from shareasm.model import AccountChanged, Counts, Hole, Page, Query, Removed, Seen
from shareasm.networks import Setting
from shareasm.networks.x import NETWORK
from shareasm.networks.x.line import Answer, Bearer, Server
from shareasm.networks.x.own import id_at, moment_of
from shareasm.networks.x.seen import (
    EXPANSIONS,
    TWEET_FIELDS,
    USER_FIELDS,
    Bucket,
    Shown,
    Unreadable,
    read_counts,
    read_page,
)
from shareasm.text import fold_tag

WINDOW = timedelta(days=7)
EDGE = timedelta(seconds=30)
"""X shows in its search what is older than this; what is younger may come late."""
LOOK_BACK, LONG_LOOK_BACK = timedelta(minutes=2), timedelta(minutes=60)
LONG_LOOK_EVERY_SECONDS, CHECK_EVERY_SECONDS = 600.0, 3_600.0
TAIL = timedelta(minutes=10)
"""A shorter stretch is read by its end alone; a longer one is checked against the counts."""
QUERY_SIGNS = 512
WINDOW_POSTS, PAGE_ROWS, LOOK_UP_IDS = 1_000, 300, 100
MOST_REMEMBERED = 50_000
ASK_AGAIN_SECONDS = 600.0
LONGEST_PATIENCE = timedelta(minutes=16)
QUIET_SECONDS = 0.8
_PLAIN_TAG = re.compile(r"\w+")


@dataclass(slots=True)
class _Known:
    """A post that was shown: what would make it worth showing again."""

    posted_at: datetime
    author: str
    version: tuple[str, Counts]
    asked: float = float("-inf")


@dataclass(slots=True)
class _Stretch:
    """Rows of a stretch while it is read: each post once."""

    shown: dict[str, Seen] = field(default_factory=dict)
    context: dict[str, Seen] = field(default_factory=dict)
    unreadable: int = 0

    def take(self, page: Shown) -> None:
        for seen in page.seen:
            kept = self.shown.get(seen.native_id)
            if kept is None or (seen.edited_at or seen.posted_at) >= (kept.edited_at or kept.posted_at):
                self.shown[seen.native_id] = seen
        for seen in page.context:
            self.context.setdefault(seen.native_id, seen)
        self.unreadable += page.unreadable


class XSource:
    """X's recent search of the last seven days. Needs the app's bearer token, and costs money by what it shows.

    `[accounts.NAME.options]` takes `poll_seconds` (30): how often the living end is read.
    """

    network: str = NETWORK

    def __init__(
        self, setting: Setting, *, call_seconds: float = 20.0, wait: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock, self._wait, self._call_seconds = setting.clock, wait, call_seconds
        self._poll_seconds = _poll_seconds(setting)
        self._server = Server(setting.server, setting.name, setting.clock)
        self._keys = Bearer(setting.secret("BEARER_TOKEN"))
        self._known: dict[str, _Known] = {}
        self._of: tuple[str, ...] = ()
        self.server: str = self._server.name

    def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
        """Yield everything after the cursor that the search still shows, oldest first within each stretch.

        A post comes again when it was edited or its counts changed (views apart). Raises NetworkError when X cannot be
        read on; rows that were read before that are given first, without a cursor.
        """
        if query.hashtags != self._of:
            self._of, self._known = query.hashtags, {}
        position, hole = self._begin(query, cursor)
        if hole is not None:
            yield Page(holes=(hole,), cursor=_cursor(position))
        edge = self._edge()
        if edge - position > TAIL:
            yield from self._checked(query, position, edge)
            position = edge
        position = yield from self._tail(query, position, LOOK_BACK)
        if live:
            yield from self._live(query, position)

    # ── Live ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _live(self, query: Query, position: datetime) -> Iterator[Page]:
        polled = looked_far = checked = time.monotonic()
        checked_until = position
        while True:
            yield from self._idle(until=polled + self._poll_seconds)
            polled = time.monotonic()
            try:
                if polled - checked >= CHECK_EVERY_SECONDS:
                    checked, edge = polled, self._edge()
                    yield from self._checked(query, checked_until, edge)
                    checked_until = edge
                is_far = polled - looked_far >= LONG_LOOK_EVERY_SECONDS
                looked_far = polled if is_far else looked_far
                position = yield from self._tail(query, position, LONG_LOOK_BACK if is_far else LOOK_BACK)
            except RateLimited as asked:
                wait = asked.until - self._clock.now() if asked.until else None
                if wait is None or wait > LONGEST_PATIENCE:
                    raise
                yield from self._idle(until=time.monotonic() + wait.total_seconds())

    def _idle(self, *, until: float) -> Iterator[Page]:
        """Yield an empty page each second until then, so that the caller can stop."""
        yield Page()
        while (left := until - time.monotonic()) > 0:
            self._wait(min(left, QUIET_SECONDS))
            yield Page()

    # ── Stretches ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, query: Query, cursor: str | None) -> tuple[datetime, Hole | None]:
        position = min((moment_of(cursor) if cursor else None) or query.since, self._edge())
        wall = (self._server.now() - WINDOW + timedelta(minutes=1)).replace(microsecond=0)
        if position >= wall:
            return position, None
        end = min(wall, query.until)
        why = "outside the 7 days that X's search reaches back"
        return wall, Hole(position, end, why, from_cursor=cursor or "", to_cursor=_cursor(wall))

    def _edge(self) -> datetime:
        return (self._server.now() - EDGE).replace(microsecond=0)

    def _checked(self, query: Query, start: datetime, end: datetime) -> Iterator[Page]:
        """Yield a stretch, oldest first, each part of it against what X counts there."""
        start = start.replace(microsecond=0)
        if end <= start:
            return
        words = search_queries(query.hashtags)
        counted = [self._counts(one, start, end) for one in words]
        for begin, close in _windows(counted, start, end):
            stretch, holes = _Stretch(), list[Hole]()
            try:
                for one, buckets in zip(words, counted, strict=True):
                    bounds = {"start_time": _stamp(begin), "end_time": _stamp(close)}
                    found = yield from self._read(stretch, one, bounds)
                    holes += _mismatches([b for b in buckets if begin <= b.start < close], found)
            except NetworkError:
                yield from self._rows(stretch)
                raise
            yield from self._rows(stretch)
            yield self._closing(stretch, begin, close, holes)

    def _tail(self, query: Query, position: datetime, look_back: timedelta) -> Generator[Page, None, datetime]:
        """Yield what came since the position, and what changed a little before it. Return the new position."""
        edge = max(position, self._edge())
        since = max(position - look_back, self._server.now() - WINDOW + timedelta(minutes=1))
        stretch = _Stretch()
        try:
            for one in search_queries(query.hashtags):
                yield from self._read(stretch, one, {"since_id": str(id_at(since))})
        except NetworkError:
            yield from self._rows(stretch)
            raise
        yield from self._rows(stretch)
        yield self._closing(stretch, since, None, [], complete_until=edge)
        return edge

    def _rows(self, stretch: _Stretch) -> Iterator[Page]:
        """Yield what is new or changed, oldest first, without a cursor: the stretch may not be whole."""
        fresh = sorted((one for one in stretch.shown.values() if self._is_fresh(one)), key=lambda one: one.posted_at)
        for start in range(0, len(fresh), PAGE_ROWS):
            rows = fresh[start : start + PAGE_ROWS]
            beside = {id_: stretch.context[id_] for one in rows for id_ in _beside(one) if id_ in stretch.context}
            yield Page(seen=rows, context=list(beside.values()))
            for one in rows:
                self._remember(one)

    def _closing(
        self,
        stretch: _Stretch,
        start: datetime,
        end: datetime | None,
        holes: list[Hole],
        *,
        complete_until: datetime | None = None,
    ) -> Page:
        """Return the page that moves the cursor behind a stretch that was read whole."""
        if stretch.unreadable:
            holes.append(Hole(start, end, f"{stretch.unreadable} posts of X could not be read"))
        removed, accounts = self._gone(stretch, start, end)
        until = complete_until or end
        cursor = _cursor(until) if until else None
        return Page(removed=removed, accounts=accounts, holes=holes, cursor=cursor, complete_until=until)

    def _gone(
        self, stretch: _Stretch, start: datetime, end: datetime | None
    ) -> tuple[list[Removed], list[AccountChanged]]:
        """Ask by id for what was shown before and is not there now. A search alone proves nothing."""
        now = time.monotonic()
        missing = [
            id_
            for id_, known in self._known.items()
            if id_ not in stretch.shown
            and known.posted_at > start
            and (end is None or known.posted_at < end)
            and now - known.asked >= ASK_AGAIN_SECONDS
        ]
        removed: list[Removed] = []
        accounts: list[AccountChanged] = []
        for place in range(0, len(missing), LOOK_UP_IDS):
            ids = missing[place : place + LOOK_UP_IDS]
            shown = self._page(self._ask("/2/tweets", {"ids": ",".join(ids)}), is_search=False)
            for id_ in ids:
                self._known[id_].asked = now
            removed += [Removed(NETWORK, id_) for id_ in shown.not_found if id_ in self._known]
            hidden = {self._known[id_].author for id_ in shown.not_allowed if id_ in self._known}
            accounts += [AccountChanged(NETWORK, author, active=False) for author in sorted(hidden)]
        for one in removed:
            self._known.pop(one.native_id, None)
        return removed, accounts

    def _is_fresh(self, seen: Seen) -> bool:
        known = self._known.get(seen.native_id)
        return known is None or known.version != _version(seen)

    def _remember(self, seen: Seen) -> None:
        self._known.pop(seen.native_id, None)
        self._known[seen.native_id] = _Known(seen.posted_at, seen.author.native_id, _version(seen))
        while len(self._known) > MOST_REMEMBERED:
            self._known.pop(next(iter(self._known)))

    # ── Questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, stretch: _Stretch, words: str, bounds: dict[str, str]) -> Generator[Page, None, list[datetime]]:
        """Read all pages of one search into the stretch. Return when each found post was made.

        An empty page between two answers tells the caller that the source is alive.
        """
        params = {"query": words, "max_results": "100", "sort_order": "recency", **bounds}
        params |= {"tweet.fields": TWEET_FIELDS, "user.fields": USER_FIELDS, "expansions": EXPANSIONS}
        found: dict[str, datetime] = {}
        tokens: set[str] = set()
        while True:
            answer = self._ask("/2/tweets/search/recent", params)
            page = self._page(answer)
            stretch.take(page)
            found |= {one.native_id: one.posted_at for one in page.seen}
            if not page.next_token:
                return list(found.values())
            if page.next_token in tokens:
                raise self._server.unreadable(answer)  # it leads in a circle
            tokens.add(page.next_token)
            params["next_token"] = page.next_token
            yield Page()

    def _counts(self, words: str, start: datetime, end: datetime) -> list[Bucket]:
        params = {"query": words, "granularity": "hour", "start_time": _stamp(start), "end_time": _stamp(end)}
        answer = self._ask("/2/tweets/counts/recent", params)
        try:
            return read_counts(answer.body)
        except Unreadable as why:
            raise self._server.unreadable(answer) from why

    def _ask(self, route: str, params: dict[str, str]) -> Answer:
        if route == "/2/tweets":
            params = {**params, "tweet.fields": "author_id,created_at"}
        answer = self._server.call(time.monotonic() + self._call_seconds, "GET", route, self._keys, params=params)
        self._server.hold(answer)
        return answer

    def _page(self, answer: Answer, *, is_search: bool = True) -> Shown:
        try:
            return read_page(answer.body, self._server.now(), is_search=is_search)
        except Unreadable as why:
            raise self._server.unreadable(answer) from why


def search_queries(hashtags: Sequence[str]) -> list[str]:
    """Return the searches for these hashtags: as few as X's length allows, reposts left out.

    X's keyword search has no reposts; saying so keeps its counts in step with it. A tag that X cannot read as one
    (`A&SM`) is searched for as words.
    """
    tags = {fold_tag(tag): tag.lstrip("#＃") for tag in reversed(hashtags)}
    terms = [f"#{tag}" if _PLAIN_TAG.fullmatch(tag) else f'"{tag.replace(chr(34), " ")}"' for tag in tags.values()]
    queries: list[str] = []
    group: list[str] = []
    for term in reversed(terms):
        if group and len(_query([*group, term])) > QUERY_SIGNS:
            queries.append(_query(group))
            group = []
        group.append(term)
    return [*queries, _query(group)]


def _query(terms: Sequence[str]) -> str:
    return f"({' OR '.join(terms)}) -is:retweet"


def _windows(
    counted: Sequence[Sequence[Bucket]], start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Yield stretches of the time between, each with about as many posts as can be held, cut where the counts are."""
    begin, posts = start, 0
    for number, bucket in enumerate(counted[0]):
        here = sum(buckets[number].posts for buckets in counted if number < len(buckets))
        if posts and posts + here > WINDOW_POSTS and begin < bucket.start < end:
            yield begin, bucket.start
            begin, posts = bucket.start, 0
        posts += here
    yield begin, end


def _mismatches(buckets: Sequence[Bucket], found: Sequence[datetime]) -> list[Hole]:
    """Return where X counts more posts than its search gave, by over 2 % or five posts and more than one."""
    holes: list[Hole] = []
    for bucket in buckets:
        got = sum(1 for moment in found if bucket.start <= moment < bucket.end)
        if _is_short(got, bucket.posts):
            holes.append(_mismatch(bucket.start, bucket.end, bucket.posts, got))
    total = sum(bucket.posts for bucket in buckets)
    if not holes and buckets and _is_short(len(found), total):
        return [_mismatch(buckets[0].start, buckets[-1].end, total, len(found))]
    return holes


def _is_short(got: int, counted: int) -> bool:
    return counted - got > max(1, min(5, counted * 0.02))


def _mismatch(start: datetime, end: datetime, counted: int, got: int) -> Hole:
    return Hole(start, end, f"count_mismatch {counted - got}: X counts {counted} posts, its search gave {got}")


def _beside(seen: Seen) -> tuple[str, ...]:
    return tuple(id_ for id_ in (seen.of_id, seen.reply_to_id, seen.quote_of_id) if id_)


def _version(seen: Seen) -> tuple[str, Counts]:
    c = seen.counts
    return seen.text, Counts(c.likes, c.reposts, c.replies, c.quotes, c.bookmarks)


def _cursor(moment: datetime) -> str:
    return str(id_at(moment))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _poll_seconds(setting: Setting) -> float:
    wished = (setting.options or {}).get("poll_seconds", 30)
    if isinstance(wished, bool) or not isinstance(wished, int | float) or not 1 <= wished <= 3_600:
        raise ConfigError("poll_seconds must be a number from 1 to 3600.", "Write 30.", where=setting.name)
    return float(wished)
