"""The state of the feed: its lines, and what they say up to one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from shareasm.model import Counts, Kind, Wire
from shareasm.text import fold_tag, hashtags

BEAT = timedelta(seconds=10)
"""The audience lives in steps of this length."""

NEVER = datetime.min.replace(tzinfo=UTC)

Act = Literal["opened", "account", "post", "like", "edit", "gone", "closed"]


class Member(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One account of the network. `loud` is its weight in the audience; ours have none."""

    handle: str
    name: str
    group: str = ""
    country: str = ""
    languages: tuple[str, ...] = ()
    role: str = ""
    followers: int | None = None
    following: int | None = None
    bot: bool = False
    may_be_named: bool = True
    declared: bool = False
    loud: float = 0.0


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign's audience: where its days begin and end, and how lively it is."""

    number: int
    seed: str
    hashtag: str
    start: datetime
    until: datetime
    pace: float


class Event(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One line of the feed. `left` is how many lines of the same step follow: only whole steps count."""

    seq: int = 0
    do: Act
    at: datetime
    left: int = 0
    crowd: int = 0
    ours: bool = False
    id: str = ""
    by: str = ""
    kind: Kind = "original"
    text: str = ""
    lang: str = ""
    of: str = ""
    root: str = ""
    quote: str = ""
    links: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    key: str = ""
    digest: str = ""
    said: tuple[str, ...] = ()
    who: tuple[str, ...] = ()
    person: Member | None = None
    opening: Opening | None = None


@dataclass(slots=True, eq=False)
class FeedPost:
    """One post with what has become of it so far."""

    id: str
    by: str
    kind: Kind
    at: datetime
    lang: str
    of: str
    root: str
    quote: str
    links: tuple[str, ...]
    media: tuple[str, ...]
    digest: str
    said: tuple[str, ...]
    ours: bool
    crowd: int
    text: str = ""
    spelling: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    likers: set[str] = field(default_factory=set)
    relayers: set[str] = field(default_factory=set)
    replies: int = 0
    quotes: int = 0
    thanked: bool = False
    gone: bool = False
    edited_at: datetime | None = None
    told: Counts | None = None
    pull: float = -1.0

    def say(self, text: str) -> None:
        """Give it this text, and the hashtags that stand in it: as written, and as they are compared."""
        self.text = text
        self.spelling = tuple(dict.fromkeys(span.text for span in hashtags(text)))
        self.tags = frozenset(map(fold_tag, self.spelling))

    @property
    def counts(self) -> Counts:
        """Return its counts by now."""
        return Counts(len(self.likers), len(self.relayers), self.replies, self.quotes)

    @property
    def pool(self) -> str:
        """Return the kind of words that somebody of the audience chose; nothing for a post of ours."""
        return self.said[0].split(".")[1] if self.said else ""


class State:
    """Everything that the feed says up to one line."""

    def __init__(self) -> None:
        self.seq = 0
        self.last_at = NEVER
        self.posts: dict[str, FeedPost] = {}
        self.members: dict[str, Member] = {}
        self.openings: dict[int, Opening] = {}
        self.lived: dict[int, datetime] = {}
        self.closed: dict[int, datetime] = {}
        self.walls: dict[int, list[FeedPost]] = {}
        self.awake: dict[int, datetime] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.written: Counter[str] = Counter()
        self.said: Counter[str] = Counter()

    def keyed(self, wire: Wire) -> FeedPost | None:
        """Return the post that this account made with this key."""
        return self.posts.get(self.keys.get((wire["account"], wire["key"]), ""))

    def apply(self, event: Event) -> None:
        """Take one line in."""
        if event.do == "post":
            self._post(event)
        elif event.do == "like":
            self.posts[event.of].likers.update(event.who)
        elif event.do == "edit":
            post = self.posts[event.of]
            post.say(event.text)
            post.edited_at, post.pull = event.at, -1.0
        elif event.do == "gone":
            self._gone(self.posts[event.of])
        elif event.do == "account" and event.person:
            self.members[event.person.handle] = event.person
        elif event.do == "opened" and event.opening:
            self._opened(event.opening)
        elif event.do == "closed":
            self.closed[event.crowd] = event.at
        self.seq = event.seq
        self.last_at = max(self.last_at, event.at)
        self._live(event)

    def crowd_of(self, event: Event) -> int:
        """Return the number of the campaign that a line belongs to, 0 for none."""
        if event.crowd:
            return event.crowd
        post = self.posts.get(event.id or event.of)
        return post.crowd if post else 0

    def _live(self, event: Event) -> None:
        # Whoever writes for us has let the audience live first, so a line of ours also proves how far it has lived.
        for number in (event.crowd,) if event.crowd else tuple(self.openings) if event.ours else ():
            opening = self.openings[number]
            beats = (min(event.at, opening.until) - opening.start) // BEAT + (1 if event.crowd else 0)
            if event.do in ("post", "like", "edit", "gone"):
                self.lived[number] = max(self.lived[number], opening.start + beats * BEAT)

    def _post(self, e: Event) -> None:
        post = FeedPost(
            id=e.id, by=e.by, kind=e.kind, at=e.at, lang=e.lang, of=e.of, root=e.root, quote=e.quote,
            links=e.links, media=e.media, digest=e.digest, said=e.said, ours=e.ours, crowd=e.crowd,
        )  # fmt: skip
        post.say(e.text)
        self.posts[e.id] = post
        self.written[e.by] += 1
        self.said.update(e.said)
        if e.key:
            self.keys[e.by, e.key] = e.id
        parent = self.posts.get(e.of)
        if parent and e.kind == "repost":
            parent.relayers.add(e.by)
        elif parent:
            parent.replies += 1
            parent.thanked = parent.thanked or post.by == (self.posts.get(parent.of) or parent).by
        if e.quote in self.posts:
            self.posts[e.quote].quotes += 1
        if e.ours:
            post.crowd = self._home(post)
        self._hang(post)

    def _hang(self, post: FeedPost) -> None:
        """Put what somebody said on its campaign's wall, where the audience sees it."""
        if post.crowd and post.kind != "repost":
            self.walls[post.crowd].append(post)
            if post.ours:
                self.awake[post.crowd] = min(self.awake.get(post.crowd, post.at), post.at)

    def _home(self, post: FeedPost) -> int:
        """Return the campaign that a post of ours belongs to: by its hashtag, else by its thread."""
        for number, opening in self.openings.items():
            near = opening.start - timedelta(days=1) <= post.at < opening.until + timedelta(days=7)
            if near and fold_tag(opening.hashtag) in post.tags:
                return number
        parent = self.posts.get(post.of)
        return parent.crowd if parent else 0

    def _opened(self, opening: Opening) -> None:
        self.openings[opening.number] = opening
        self.lived.setdefault(opening.number, opening.start)
        if opening.number in self.walls:
            return
        self.walls[opening.number] = []
        for post in self.posts.values():
            if post.ours and not post.crowd:
                post.crowd = self._home(post)
                self._hang(post)

    def _gone(self, post: FeedPost) -> None:
        if post.gone:
            return
        post.gone, post.pull = True, 0.0
        parent = self.posts.get(post.of)
        if parent and post.kind == "repost":
            parent.relayers.discard(post.by)
        elif parent:
            parent.replies -= 1
        if post.quote in self.posts:
            self.posts[post.quote].quotes -= 1


def post_id(handle: str, number: int) -> str:
    """Return the id of an account's post."""
    return f"practice:{handle}/{number}"
