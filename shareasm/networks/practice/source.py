"""The source: the public feed, read line by line. Listening is what makes the audience live."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import msgspec

from shareasm.errors import Unreachable
from shareasm.model import Author, Counts, Hole, Page, Query, Removed, Seen
from shareasm.networks import Setting
from shareasm.networks.practice.cast import taste_of
from shareasm.networks.practice.feed import Feed, Tail, readable
from shareasm.networks.practice.state import Event, FeedPost, Member, State
from shareasm.text import mentions

TELL_COUNTS = timedelta(minutes=10)
PAGE_ROWS = 500
QUIET_SECONDS = 0.6
WAIT_SECONDS = 0.2


class PracticeSource:
    """The public feed of the practice network. Listening is what makes its audience live."""

    network = "practice"
    server = "practice"

    def __init__(self, setting: Setting) -> None:
        self._clock = setting.clock
        self._feed = Feed(setting.folder)
        self._taste = taste_of(setting.options or {})
        self._kept: tuple[Query, Reader] | None = None

    def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
        """Yield everything after `cursor` that happened up to the clock's moment, oldest first.

        No page names a post twice. Counts grow: a post comes again when they changed, at most each ten desk minutes.
        Live, at least one page a second of real time is given, whatever the desk's clock does.
        """
        reader = self._reader_at(query, cursor)
        while True:
            begun = time.monotonic()
            given = False
            for page in self._ask(reader, query):
                given = True
                yield page
            if not live:
                self._kept = (query, reader)
                if not given:
                    yield Page(cursor=reader.cursor, complete_until=reader.complete_until)
                return
            while not given and time.monotonic() - begun < QUIET_SECONDS:
                time.sleep(WAIT_SECONDS)
                for page in self._ask(reader, query):
                    given = True
                    yield page
            if not given:
                yield Page(cursor=reader.cursor, complete_until=reader.complete_until)

    def _reader_at(self, query: Query, cursor: str | None) -> Reader:
        """Return the last walk where it stands at this cursor, which saves reading the feed again, or a new one."""
        # Taken, not shared: two walks at once must not move each other's place.
        kept, self._kept = self._kept, None
        return kept[1] if kept and kept[0] == query and kept[1].cursor == cursor else Reader(cursor)

    def _ask(self, reader: Reader, query: Query) -> Iterator[Page]:
        with readable(), self._feed.locked() as file:
            now = self._clock.now()
            number = self._feed.opening(file, query.hashtags[0], query.since, query.until, self._taste)
            self._feed.live(file, now)
            events = reader.read(file)
            last_seq = self._feed.state.seq
            complete_until = self._feed.lived_until(number, now)
        hole = reader.begin_anew(last_seq)
        if hole:
            yield Page(holes=(hole,), cursor=reader.cursor)
        yield from reader.pages(events, number, now, complete_until)


class Reader:
    """One walk through the feed: the state at its place, and the rows that each line gives."""

    def __init__(self, cursor: str | None) -> None:
        self._seq, self._within = _place(cursor)
        self._begin()
        self.complete_until: datetime | None = None

    @property
    def cursor(self) -> str:
        """Return the place behind the last row given."""
        return f"{self._seq}.{self._within}" if self._within else str(self._seq)

    def read(self, file: int) -> list[Event]:
        """Return the lines that this walk has not met yet, including those that it met too early."""
        if not self._tail.is_same_file(file):
            self._begin()
            self._tail.is_same_file(file)
            self._is_lost = self._seq > 0
        events = [*self._early, *self._tail.read(file)]
        self._early = []
        return events

    def begin_anew(self, last_seq: int) -> Hole | None:
        """Go back to the first line when the feed ends before this place, and say so."""
        if self._seq <= last_seq and not self._is_lost:
            return None
        self._seq, self._within, self._is_lost = 0, 0, False
        return Hole(None, None, "The practice feed was begun anew: it is read again from its first line.")

    def pages(self, events: Sequence[Event], number: int, now: datetime, complete_until: datetime) -> Iterator[Page]:
        """Yield the rows of these lines, in pages that name no post twice. What is yet to come waits.

        Lines without rows move the cursor too: an empty page says so.
        """
        before = self.cursor
        left = deque(events)
        seen: list[Seen] = []
        removed: list[Removed] = []
        named: set[str] = set()
        at: datetime | None = None
        while left and left[0].at <= now:
            event = left.popleft()
            rows = self._rows(event, number)
            if event.seq <= self._seq:
                continue
            skip, self._within = self._within, 0
            for index, row in enumerate(rows[skip:], start=skip):
                if row.native_id in named or len(named) >= PAGE_ROWS:
                    self._within = index
                    self._seq = event.seq - 1
                    yield Page(seen=seen, removed=removed, cursor=self.cursor, complete_until=at)
                    seen, removed, named = [], [], set()
                named.add(row.native_id)
                if isinstance(row, Seen):
                    seen.append(row)
                else:
                    removed.append(row)
            self._seq, self._within, at = event.seq, 0, event.at
        self._early = list(left)
        self.complete_until = complete_until
        if named or self.cursor != before:
            yield Page(seen=seen, removed=removed, cursor=self.cursor, complete_until=complete_until)

    def _begin(self) -> None:
        self._state = State()
        self._tail = Tail()
        self._early: list[Event] = []
        self._is_lost = False
        self._changed: dict[str, None] = {}
        self._mark: datetime | None = None

    def _rows(self, event: Event, number: int) -> list[Seen | Removed]:
        rows: list[Seen | Removed] = [*self._grown(event, number)]
        self._state.apply(event)
        if self._state.crowd_of(event) != number:
            return rows
        if event.do == "opened" and self._mark is None:
            self._mark = event.at
            walls = self._state.walls[number]
            rows += [self._seen(post, post.at) for post in walls]
            rows += [Removed("practice", post.id) for post in walls if post.gone]
        elif event.do in ("post", "edit"):
            rows.append(self._seen(self._state.posts[event.id or event.of], event.at, event))
        elif event.do == "gone":
            self._changed.pop(event.of, None)
            rows.append(Removed("practice", event.of))
        self._note(event)
        return rows

    def _note(self, event: Event) -> None:
        """Remember whose counts this line changed."""
        touched = self._state.posts.get(event.of) if event.do == "gone" else None
        for post_id in (event.of, event.quote, *((touched.of, touched.quote) if touched else ())):
            post = self._state.posts.get(post_id)
            if post and not post.gone and post.kind != "repost":
                self._changed[post_id] = None

    def _grown(self, event: Event, number: int) -> Iterator[Seen]:
        """Yield the posts whose counts changed materially, once a line passes the next mark of desk time."""
        if self._mark is None or event.at < self._mark + TELL_COUNTS:
            return
        self._mark += (event.at - self._mark) // TELL_COUNTS * TELL_COUNTS
        waiting, self._changed = self._changed, {}
        last = event.do == "closed" and event.crowd == number
        for post_id in waiting:
            post = self._state.posts[post_id]
            told = post.told or Counts(0, 0, 0, 0)
            if post.gone or post.crowd != number or post.counts == told:
                continue
            if last or _is_material(told, post.counts):
                yield self._seen(post, self._mark)
            else:
                self._changed[post_id] = None

    def _seen(self, post: FeedPost, at: datetime, event: Event | None = None) -> Seen:
        post.told = post.counts
        repost = post.kind == "repost"
        return Seen(
            network="practice",
            native_id=post.id,
            author=_author(self._state.members[post.by]),
            kind=post.kind,
            posted_at=post.at,
            text=post.text,
            language=post.lang,
            tags=post.spelling,
            links=post.links,
            of_id=post.of or post.quote,
            reply_to_id=post.of if post.kind == "reply" else "",
            quote_of_id=post.quote,
            root_id=post.root,
            mentions=tuple(dict.fromkeys(m.text for m in mentions(post.text) if m.text in self._state.members)),
            media=post.media,
            counts=Counts() if repost else post.counts,
            counts_at=None if repost else at,
            counts_server="practice",
            edited_at=post.edited_at,
            raw=msgspec.json.encode(event) if event else b"",
        )


def _author(member: Member) -> Author:
    return Author(
        native_id=member.handle,
        handle=member.handle,
        name=member.name,
        bot=member.bot,
        followers=member.followers,
        following=member.following,
        may_be_named=member.may_be_named,
    )


def _is_material(told: Counts, now: Counts) -> bool:
    """Tell whether counts changed by a fiftieth or more, which for small ones is any change."""
    before = [told.likes, told.reposts, told.replies, told.quotes]
    after = [now.likes, now.reposts, now.replies, now.quotes]
    change = sum(abs((b or 0) - (a or 0)) for a, b in zip(before, after, strict=True))
    return 0 < change >= sum(a or 0 for a in before) / 50


def _place(cursor: str | None) -> tuple[int, int]:
    """Return the line and the row within the next line that a cursor stands behind."""
    line, _, row = (cursor or "0").partition(".")
    if not line.isdigit() or (row and not row.isdigit()):
        raise Unreachable(f"“{cursor}” is no place in the practice feed.", network="practice")
    return int(line), int(row or 0)
