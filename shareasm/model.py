"""The words of the desk as frozen values, and the two state tables.

Nothing here knows a file, a network or a database. Times are aware and in UTC; ids are text; what nobody knows is None.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NewType, Protocol

AccountName = NewType("AccountName", str)
PostId = NewType("PostId", str)
DeliveryId = NewType("DeliveryId", str)

Kind = Literal["original", "reply", "quote", "repost"]
KINDS: tuple[Kind, ...] = ("original", "reply", "quote", "repost")


def utc(moment: datetime) -> datetime:
    """Return the moment in UTC. A naive one is refused, because nobody can know what it means."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


def digest_of(value: object) -> str:
    """Return the SHA-256 of the value's canonical JSON, in hexadecimal."""
    canonical = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class Clock(Protocol):
    """Time as it is passed into every step: the world's, the database's, a rehearsal's or a simulation's."""

    def now(self) -> datetime:
        """Return this moment, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards, for deadlines."""
        ...


class WorldClock:
    """The machine's clock, moved by the offset that the database measured (zero for SQLite)."""

    def __init__(self, offset: timedelta = timedelta(0)) -> None:
        self.offset = offset

    def now(self) -> datetime:
        """Return this moment."""
        return datetime.now(UTC) + self.offset

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        import time

        return time.monotonic()


# ── States ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class PostState(StrEnum):
    """Where a Post stands between the first draft and its approval."""

    DRAFT = "draft"
    """Being written. Ends when it is submitted without a problem."""
    IN_REVIEW = "in_review"
    """Waits for an approver. Ends by approval or by an edit."""
    APPROVED = "approved"
    """This revision may go out; its deliveries exist. Ends by an edit or by withdrawal."""
    WITHDRAWN = "withdrawn"
    """Will not go out. The end."""


class DeliveryState(StrEnum):
    """Where one post on one account stands."""

    SCHEDULED = "scheduled"
    """Waits for its moment. Ends when a worker claims it, or when its moment has passed."""
    CLAIMED = "claimed"
    """A worker holds it; nothing was sent. Ends within the lease."""
    SENDING = "sending"
    """The intent is on disk and the request may be on its way. Ends with the answer or the lease."""
    UNCONFIRMED = "unconfirmed"
    """Sent, answer lost. Ends when the network was asked and shows it, or shows it is absent twice."""
    PUBLISHED = "published"
    """Out, with the network's own id. The end."""
    NEEDS_HUMAN = "needs_human"
    """The desk cannot know. Ends by a person's word."""
    PAUSED = "paused"
    """Fell due while a switch was on. Ends by a person's word, never by itself."""
    MISSED = "missed"
    """Its last moment passed before it could be sent. Ends by a person's word."""
    BLOCKED = "blocked"
    """An earlier part of its thread is not out. Ends by a person's word."""
    FAILED = "failed"
    """The network refused this content for good. Ends by an edit."""
    CANCELLED = "cancelled"
    """Will not go out. The end, unless the network shows it after all."""


WAITING = frozenset(
    {
        DeliveryState.SCHEDULED,
        DeliveryState.PAUSED,
        DeliveryState.MISSED,
        DeliveryState.BLOCKED,
        DeliveryState.FAILED,
    }
)
"""Not out and not on its way: what an edit, a cancel or a withdrawal may end."""

UNDER_WAY = frozenset(
    {DeliveryState.CLAIMED, DeliveryState.SENDING, DeliveryState.UNCONFIRMED, DeliveryState.NEEDS_HUMAN}
)
"""May be out already: an edit of the post is refused while one of its deliveries stands here."""

ASKS_FOR_A_PERSON = frozenset({DeliveryState.NEEDS_HUMAN, DeliveryState.FAILED, DeliveryState.MISSED})
"""On top of every list until someone acts."""

DONE = frozenset({DeliveryState.PUBLISHED, DeliveryState.CANCELLED})

Phase = Literal["intent", "stalled", "confirmed", "refused", "unknown", "absent", "reconciled", "decided"]


class MentionState(StrEnum):
    """Whether a collected post counts."""

    COUNTED = "counted"
    """A mention: public and under the campaign's hashtags."""
    CONVERSATION = "conversation"
    """Part of the talk without the hashtag. Kept and shown, never in the number of mentions."""
    CARRIED = "carried"
    """An original we know only because a mention reposts or quotes it."""
    LEFT = "left"
    """An edit took the hashtag away."""
    HIDDEN = "hidden"
    """Its author's account is gone for now."""
    DELETED = "deleted"
    """Its author took it back: the text is gone, the count stays."""


# ── The plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A hashtag that counts only beside one of the campaign's words."""

    tag: str
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Campaign:
    """One online day: a folder in `scheduled_posts/`, its hashtags and its first and last moment."""

    folder: str
    name: str
    hashtags: tuple[str, ...]
    start: datetime
    end: datetime
    time_zone: str
    variants: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    ambiguous: tuple[Ambiguous, ...] = ()
    look_alikes: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    not_after: timedelta = timedelta(minutes=15)
    retention: str = ""
    servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Media:
    """One picture of a Post: where it lies, what it shows in words, and the bytes that were approved."""

    file: str
    alt: str
    digest: str
    mime: str
    size: int
    width: int
    height: int
    focus: str = ""


@dataclass(frozen=True, slots=True)
class Post:
    """What we wrote, in one language, for one moment.

    `parts` maps a network's name to its thread parts; the empty name is the wording for all others.
    """

    id: str
    message: str
    language: str
    due_at: datetime
    due_local: str
    time_zone: str
    accounts: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    ready: bool
    fold: int = 0
    not_after: timedelta = timedelta(minutes=15)
    if_late: Literal["ask", "skip"] = "ask"
    media: tuple[Media, ...] = ()
    link: str = ""
    reply_to: str = ""
    warning: str = ""
    labels: tuple[str, ...] = ()
    file: str = ""
    line: int = 1
    lines: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)
    """Where it stands in the file, so that a problem names its line: each part by its network as in `parts`, a key of
    the front matter as `media:`. Not part of what is approved."""

    def parts_for(self, network: str) -> tuple[str, ...]:
        """Return the thread parts as this network gets them."""
        return self.parts.get(network) or self.parts.get("", ())

    def as_json(self) -> dict[str, Any]:
        """Return everything that an approval binds, as plain JSON values."""
        return {
            "accounts": list(self.accounts),
            "due_at": self.due_at.isoformat(),
            "if_late": self.if_late,
            "language": self.language,
            "link": self.link,
            "media": [
                {
                    "file": m.file,
                    "alt": m.alt,
                    "digest": m.digest,
                    "mime": m.mime,
                    "size": m.size,
                    "width": m.width,
                    "height": m.height,
                    "focus": m.focus,
                }
                for m in self.media
            ],
            "not_after": self.not_after.total_seconds(),
            "parts": {network: list(parts) for network, parts in self.parts.items()},
            "reply_to": self.reply_to,
            "warning": self.warning,
        }

    @property
    def revision_hash(self) -> str:
        """Return the hash that an approval binds to: texts, media, alt texts, accounts, language and times."""
        return digest_of(self.as_json())


@dataclass(frozen=True, slots=True)
class Limits:
    """What one network (or one server) accepts. `count` names the way of counting in `text.py`."""

    count: Literal["weighted", "graphemes", "characters"]
    text: int
    bytes: int | None = None
    link_weight: int | None = None
    pictures: int = 4
    picture_bytes: int = 5_000_000
    shrinks: bool = False
    """True where the desk makes a larger picture fit by itself."""
    alt_text: int = 1_000
    languages: int = 3
    warnings: bool = True
    """False where a post cannot carry a content warning."""
    cards: bool = False
    """True where a link becomes a card; elsewhere it is appended to the first part."""


# ── Publishing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Frozen:
    """The record that approval fixes, byte for byte: what one delivery will say."""

    network: str
    account: str
    text: str
    language: str
    part: int
    of_parts: int
    created_at: datetime
    key: str
    """Made from due time and delivery id alone: an idempotency key, and Bluesky's record key."""
    link: str = ""
    media: tuple[Media, ...] = ()
    warning: str = ""
    visibility: str = "public"

    def as_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, the form that is hashed and stored."""
        return {
            "network": self.network,
            "account": self.account,
            "text": self.text,
            "language": self.language,
            "part": self.part,
            "of_parts": self.of_parts,
            "created_at": self.created_at.isoformat(),
            "key": self.key,
            "link": self.link,
            "media": [[m.file, m.alt, m.digest, m.mime, m.size, m.width, m.height, m.focus] for m in self.media],
            "warning": self.warning,
            "visibility": self.visibility,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Frozen:
        """Return the record that `as_json` wrote."""
        return cls(
            **{
                **value,
                "created_at": datetime.fromisoformat(value["created_at"]),
                "media": tuple(Media(*m) for m in value["media"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a network gave us for a post that is out."""

    remote_id: str
    url: str = ""
    cid: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """What a reply must name: the part before it and the first part."""

    parent: Receipt
    root: Receipt


Wire = Mapping[str, Any]
"""The body of one request, as plain JSON values. Stored with the first intent, so that every try sends the same."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The network made the post and gave us its id."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class NotApplied:
    """The network surely did not make the post."""

    kind: Literal["later", "account", "money", "content"]
    """later: it may pass; account, money: nothing of this account will pass; content: this post will never pass."""
    words: str
    until: datetime | None = None
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The post may be there: nobody may send it again before somebody has looked."""

    why: str
    http_status: int | None = None


Outcome = Sent | NotApplied | Unknown


@dataclass(frozen=True, slots=True)
class Found:
    """The look-up shows the post. `same` is False when what stands there is not what we sent."""

    receipt: Receipt
    same: bool = True


@dataclass(frozen=True, slots=True)
class Absent:
    """The look-up answered, and the post is not there."""


@dataclass(frozen=True, slots=True)
class Unclear:
    """The look-up itself failed: it proves nothing."""

    why: str


LookUp = Found | Absent | Unclear


@dataclass(frozen=True, slots=True)
class Timings:
    """How long each step may take. `check` holds lease > guard + call, else a slow sender could double a post."""

    lease: timedelta = timedelta(seconds=60)
    guard_seconds: float = 1.0
    call_seconds: float = 20.0
    media_seconds: float = 120.0
    settle: timedelta = timedelta(seconds=60)
    look_again: timedelta = timedelta(seconds=60)
    give_up_looking: timedelta = timedelta(minutes=30)
    late_after: timedelta = timedelta(seconds=2)

    def check(self) -> None:
        """Refuse an order of times under which a post could go out twice."""
        if self.lease.total_seconds() <= self.guard_seconds + self.call_seconds:
            raise ValueError("the lease must be longer than guard + call")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One part of one post on one account: the outbox row, with its state and receipt."""

    id: str
    campaign: str
    post: str
    account: str
    network: str
    part: int
    of_parts: int
    state: DeliveryState
    due_at: datetime
    next_at: datetime
    not_after: datetime
    fence: int
    frozen: Frozen
    frozen_hash: str
    wire: Wire | None = None
    reason: str = ""
    receipt: Receipt | None = None
    sent_at: datetime | None = None
    late_ms: int | None = None
    tries: int = 0
    absent_seen: int = 0
    key_used_at: datetime | None = None
    reply_to: str = ""
    if_late: Literal["ask", "skip"] = "ask"


@dataclass(frozen=True, slots=True)
class Switch:
    """The stop switch: a pause of everything, or of one campaign, network, account or language."""

    id: int
    scope: Literal["all", "campaign", "network", "account", "language"]
    key: str
    by: str
    at: datetime
    reason: str


# ── Collecting ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Query:
    """What a source is asked for: the campaign's hashtags, its first and its last moment."""

    campaign: str
    hashtags: tuple[str, ...]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote a collected post, as its network tells. `followers` is None where it was not told."""

    native_id: str
    handle: str = ""
    name: str = ""
    bot: bool | None = None
    created_at: datetime | None = None
    followers: int | None = None
    following: int | None = None
    posts: int | None = None
    may_be_named: bool = True


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of one post at one moment. None where the network gave none: null is not 0."""

    likes: int | None = None
    reposts: int | None = None
    replies: int | None = None
    quotes: int | None = None
    bookmarks: int | None = None
    views: int | None = None

    def is_empty(self) -> bool:
        """Return True when the network gave no count at all."""
        return self == Counts()


@dataclass(frozen=True, slots=True)
class Seen:
    """One public post as a source or an archive showed it, before the campaign's rules are applied.

    `tags` are the network's own hashtags, `links` its unwound addresses. `of_id` is the post that is reposted, quoted
    or answered; `root_id` the first post of the thread; `mentions` the native ids (or handles) that the text names.
    """

    network: str
    native_id: str
    author: Author
    kind: Kind
    posted_at: datetime
    text: str
    language: str = ""
    tags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    of_id: str = ""
    reply_to_id: str = ""
    quote_of_id: str = ""
    root_id: str = ""
    mentions: tuple[str, ...] = ()
    media: tuple[str, ...] = ()
    url: str = ""
    counts: Counts = Counts()
    counts_at: datetime | None = None
    counts_server: str = ""
    edited_at: datetime | None = None
    public: bool = True
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Counted:
    """How many posts the network itself counts in a stretch of time: the cross-check of completeness."""

    network: str
    from_at: datetime
    to_at: datetime
    posts: int


@dataclass(frozen=True, slots=True)
class Removed:
    """A post that its author, or its network, took away; known by id alone."""

    network: str
    native_id: str


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """An account that went away (all its mentions are hidden) or came back."""

    network: str
    native_id: str
    active: bool


@dataclass(frozen=True, slots=True)
class Hole:
    """A stretch that a source may have missed, with the reason in words."""

    from_at: datetime | None
    to_at: datetime | None
    why: str
    from_cursor: str = ""
    to_cursor: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What one step of a source brought: rows and the cursor that stands behind them, kept in one transaction.

    `seen` are candidates for mentions; `context` are posts shown beside them (originals of reposts, parents).
    `complete_until` is the moment up to which the source has shown everything it will show, None when unknown.
    """

    seen: Sequence[Seen] = ()
    context: Sequence[Seen] = ()
    removed: Sequence[Removed] = ()
    accounts: Sequence[AccountChanged] = ()
    holes: Sequence[Hole] = ()
    cursor: str | None = None
    complete_until: datetime | None = None
    closes_holes: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the rows of an import or a sweep: `read` = new + known + changed + refused."""

    read: int = 0
    new: int = 0
    known: int = 0
    changed: int = 0
    refused: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.read + other.read,
            self.new + other.new,
            self.known + other.known,
            self.changed + other.changed,
            self.refused + other.refused,
        )
