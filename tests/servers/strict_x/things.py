"""What X keeps: accounts, posts, pictures, tokens and bills; and the one clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any


class MovingClock:
    """The one clock of the server: the world's, moved."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """Return this moment on X."""
        return datetime.now(UTC) + self.offset

    def move(self, by: timedelta) -> None:
        """Go on in time, or back."""
        self.offset += by


@dataclass
class Account:
    """Somebody on X, with the keys of our app for it."""

    id: str
    username: str
    name: str
    access_token: str
    access_secret: str
    created_at: datetime
    followers: int = 0
    protected: bool = False
    suspended: bool = False


@dataclass
class Post:
    """A post as X keeps it: `typed` is what its author wrote, `text` what the API shows."""

    id: str
    author: str
    typed: str
    text: str
    entities: dict[str, list[dict[str, Any]]]
    created_at: datetime
    lang: str
    conversation: str
    references: list[tuple[str, str]] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    metrics: dict[str, int] = field(default_factory=dict)
    versions: list[str] = field(default_factory=list)
    visible_at: datetime | None = None
    searchable: bool = True
    deleted: bool = False
    withheld: tuple[str, ...] = ()

    def id_of(self, kind: str) -> str:
        """Return the post that this one answers, quotes or reposts."""
        return next((id_ for type_, id_ in self.references if type_ == kind), "")


@dataclass
class Upload:
    """One picture on its way."""

    id: str
    owner: str
    mime: str
    size: int
    category: str
    expires_at: datetime
    pieces: dict[int, bytes] = field(default_factory=dict)
    state: str = "begun"
    steps: deque[str] = field(default_factory=deque)
    alt: str = ""

    @property
    def key(self) -> str:
        """The name under which posts attach it."""
        return f"{16 if self.category == 'tweet_gif' else 3}_{self.id}"

    @property
    def content(self) -> bytes:
        """All pieces in order."""
        return b"".join(self.pieces[index] for index in sorted(self.pieces))


@dataclass(frozen=True)
class Bill:
    """One resource that X charged for."""

    at: datetime
    what: str
    resource: str
    price: float


@dataclass
class Fault:
    """What the server does instead of behaving, for requests whose “VERB /path” begins so."""

    route: str
    kind: str
    times: int
    seconds: float = 1.0


@dataclass(frozen=True)
class Grant:
    """An OAuth 2 access token of a user."""

    account: str
    scopes: frozenset[str]
    ends_at: datetime


@dataclass(frozen=True)
class Caller:
    """Who asks: a user through the app, or the app alone."""

    account: Account | None
    way: str
    scopes: frozenset[str] = frozenset()
