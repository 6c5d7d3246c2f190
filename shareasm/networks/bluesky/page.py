"""Page: the rows of one step of a stream, and where in the stream it stands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from shareasm import text as texts
from shareasm.errors import Unreachable
from shareasm.model import AccountChanged, Clock, Hole, Page, Query, Removed, Seen
from shareasm.networks.bluesky import NETWORK, REPOST
from shareasm.networks.bluesky.seen import seen_post, seen_repost
from shareasm.networks.bluesky.wires import Event
from shareasm.networks.bluesky.xrpc import Server

HANDLE_SECONDS, HANDLES_KEPT = 0.3, 100_000


class CursorRefused(Exception):
    """The server cannot go on from this cursor: it is ahead of everything, or too old."""


class Gather:
    """Rows of the page that is being filled, and where in the stream it stands."""

    def __init__(self, query: Query, position: str, handles: Handles, clock: Clock) -> None:
        self._query, self._position, self._handles, self._clock = query, position, handles, clock
        self._rule = TagFilter(query.hashtags)
        self._hole: Hole | None = None
        self.last_seq: int | None = int(position) if int(position) < 10**15 else None
        self.last_at: datetime | None = None
        self._moved = False
        self._clear()

    def _clear(self) -> None:
        self._seen: list[Seen] = []
        self._removed: list[Removed] = []
        self._accounts: list[AccountChanged] = []
        self._holes: list[Hole] = []

    @property
    def rows(self) -> int:
        """How many rows the page holds."""
        return len(self._seen) + len(self._removed) + len(self._accounts) + len(self._holes)

    def take(self, events: Sequence[Event]) -> None:
        """Take the events of one message."""
        for event in events:
            if event.what == "FutureCursor":
                raise CursorRefused("The server's numbers end below our cursor: it was set up anew.")
            if event.what == "OutdatedCursor":
                # From the very first cursor on, nobody missed anything but what the campaign's own beginning asks for.
                is_first = self.last_seq in (None, 0)
                self._open_hole("The server no longer has what came before.", self._query.since if is_first else None)
            elif str(event.seq) != self._position:  # some servers send the cursor's own event again
                self._move(event)
                self._sort(event)

    def miss(self, why: str) -> None:
        """Note a message that could not be read: what it told may be missing."""
        self._open_hole(f"A message of the stream could not be read: {why}.", self.last_at)

    def page(self, heard_until: datetime | None) -> Page:
        """Return what was gathered, and begin the next page."""
        self._close_hole(self._clock.now(), self.last_seq)
        self._handles.begin()
        until = max((moment for moment in (self.last_at, heard_until) if moment is not None), default=None)
        page = Page(
            seen=[self._handles.named(one) for one in self._seen],
            removed=self._removed,
            accounts=self._accounts,
            holes=self._holes,
            cursor=str(self.last_seq) if self._moved else None,
            complete_until=min(until, self._clock.now()) if until else None,
        )
        self._clear()
        return page

    def _move(self, event: Event) -> None:
        if event.seq is not None:
            self.last_seq, self._moved = event.seq, True
        if event.at is not None:
            self._close_hole(event.at, event.seq)
            self.last_at = event.at

    def _sort(self, event: Event) -> None:
        match event.what:
            case "create" | "update":
                self._add(event)
            case "delete":
                self._removed.append(Removed(NETWORK, event.uri))
            case "account":
                self._accounts.append(AccountChanged(NETWORK, event.did, event.active))
            case "identity":
                self._handles.learn(event.did, event.handle)
            case _:
                pass

    def _add(self, event: Event) -> None:
        if event.collection == REPOST:
            if seen := seen_repost(event):
                self._seen.append(seen)
            return
        seen = seen_post(event)
        is_tagged = self._rule.matches(seen)
        if is_tagged:
            self._handles.want(event.did)
        # An edit always: it may have taken the hashtag away. Answers and quotes too: only the store knows of what.
        if is_tagged or event.what == "update" or seen.reply_to_id or seen.quote_of_id:
            self._seen.append(seen)

    def _open_hole(self, why: str, since: datetime | None) -> None:
        if self._hole is None:
            self._hole = Hole(since, None, why, from_cursor="" if self.last_seq is None else str(self.last_seq))

    def _close_hole(self, at: datetime, seq: int | None) -> None:
        hole, self._hole = self._hole, None
        if hole is None:
            return
        since = hole.from_at or at
        if since > at and since == self._query.since:
            return  # what the server no longer has was before the campaign
        until = max(at, since)
        self._holes.append(replace(hole, to_at=until, to_cursor="" if seq is None else str(seq)))


class TagFilter:
    """Which posts carry one of the hashtags: as facet, in `tags`, or as a word of the text."""

    def __init__(self, hashtags: Iterable[str]) -> None:
        bare = [tag.lstrip("#＃") for tag in hashtags]
        self._folded = frozenset(texts.fold_tag(tag) for tag in bare)
        # “#A&SM” is no token anywhere: it is looked for as it stands.
        self._broken = tuple(
            f"#{tag.casefold()}" for tag in bare if [s.text for s in texts.hashtags(f"#{tag}")] != [tag]
        )

    def matches(self, seen: Seen) -> bool:
        """Tell whether the post carries one of them."""
        if any(texts.fold_tag(tag) in self._folded for tag in seen.tags):
            return True
        if "#" not in seen.text and "＃" not in seen.text:
            return False
        if any(texts.fold_tag(span.text) in self._folded for span in texts.hashtags(seen.text)):
            return True
        return bool(self._broken) and any(tag in seen.text.casefold() for tag in self._broken)


class Handles:
    """Handles by DID: what identity events told, and what describeRepo answers. Best effort, never in the way."""

    def __init__(self, server: Server, *, may_ask: bool) -> None:
        self._server, self._may_ask = server, may_ask
        self._known: dict[str, str] = {}
        self._wanted: dict[str, None] = {}
        self._end = self._ask_again = 0.0

    def learn(self, did: str, handle: str) -> None:
        """Remember a handle that the stream told."""
        if len(self._known) >= HANDLES_KEPT:
            self._known.clear()
        if handle:
            self._known[did] = handle
        else:
            self._known.pop(did, None)

    def want(self, did: str) -> None:
        """Note that this author's handle would be good to have."""
        if did not in self._known:
            self._wanted[did] = None

    def named(self, seen: Seen) -> Seen:
        """Return the post with its author's handle, where it is known or cheaply asked."""
        did = seen.author.native_id
        if did in self._wanted and did not in self._known:
            self._ask(did)
            del self._wanted[did]
        handle = self._known.get(did, "")
        return replace(seen, author=replace(seen.author, handle=handle)) if handle else seen

    def begin(self) -> None:
        """Begin the time that one page may spend on asking."""
        self._end = time.monotonic() + HANDLE_SECONDS

    def _ask(self, did: str) -> None:
        now = time.monotonic()
        if not self._may_ask or now < self._ask_again or now > self._end - HANDLE_SECONDS / 3:
            return
        try:
            answer = self._server.call(self._end, "GET", "com.atproto.repo.describeRepo", params={"repo": did})
        except Unreachable:
            self._ask_again = time.monotonic() + 60
            return
        if answer.status in (404, 501):
            self._may_ask = False  # a relay knows no repositories
        elif answer.status < 500:
            self._known[did] = answer.text("handle")  # empty where it is refused: it would be refused again


# Anybody may write any record: each part is read for itself, and one of the wrong type counts as absent.
