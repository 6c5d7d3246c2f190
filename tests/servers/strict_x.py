"""Strict X: a server on loopback that behaves as X's API v2 is documented and was measured, and that counts.

Written from /work/shared/facts/x.md alone, never from `shareasm.networks.x`; X's own SDK and tweepy drive it too. It
keeps accounts, posts, media, tokens and money, refuses what X refuses, and can be told to fail. `billed` and `posts`
are the truth that tests compare with. In this process: `with StrictX() as x`. As a process: `python -m
tests.servers.strict_x`, which prints one line of JSON and obeys `POST /strict/…`.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import hmac
import json
import re
import secrets
import signal
import socket
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit

EPOCH_MS = 1_288_834_974_657
WEEK = timedelta(days=7)
SEARCH_EDGE = timedelta(seconds=30)
PROBLEMS = "https://api.twitter.com/2/problems/"
DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
REPLY_GATE = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise engaged by the author "
    "of the post you are replying to."
)
QUOTE_GATE = "You can only reply to or quote posts where you are mentioned or are the author."
PRICES = {
    "post read": 0.005, "owned read": 0.001, "author read": 0.010, "create": 0.015, "create with link": 0.200,
    "delete": 0.010, "metadata": 0.005, "counts": 0.005,
}  # fmt: skip
LIMITS = {
    "POST /2/tweets": 100, "DELETE /2/tweets": 50, "search": 450, "counts": 300, "upload": 500, "timeline": 900,
    "lookup": 3_500, "me": 75, "other": 900,
}  # fmt: skip
PNG, JPEG, GIF, WEBP = b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF"
MAGIC = {"image/png": PNG, "image/jpeg": JPEG, "image/gif": GIF, "image/webp": WEBP}

TWEET_FIELDS = {
    "article", "attachments", "author_id", "card_uri", "community_id", "context_annotations", "conversation_id",
    "created_at", "display_text_range", "edit_controls", "edit_history_tweet_ids", "entities", "geo", "id",
    "in_reply_to_user_id", "lang", "media_metadata", "note_tweet", "note_post", "possibly_sensitive", "public_metrics",
    "referenced_tweets", "reply_settings", "scopes", "source", "text", "withheld",
}  # fmt: skip
USER_FIELDS = {
    "created_at", "description", "entities", "id", "location", "name", "protected", "public_metrics", "url",
    "username", "verified", "verified_type", "withheld", "profile_image_url", "pinned_tweet_id",
}  # fmt: skip
MEDIA_FIELDS = {"alt_text", "height", "media_key", "type", "url", "width", "public_metrics", "duration_ms"}
EXPANSIONS = {
    "attachments.media_keys", "author_id", "edit_history_tweet_ids", "edit_history_post_ids",
    "entities.mentions.username", "in_reply_to_user_id", "referenced_tweets.id", "referenced_tweets.id.author_id",
    "referenced_posts",
}  # fmt: skip
BODY = {
    "text", "reply", "media", "quote_tweet_id", "quote_post_id", "poll", "reply_settings", "geo", "nullcast",
    "for_super_followers_only", "direct_message_deep_link", "made_with_ai", "community_id",
}  # fmt: skip
METRICS = ("retweet_count", "reply_count", "like_count", "quote_count", "bookmark_count", "impression_count")
SHAPE = {"tweet.fields", "post.fields", "user.fields", "media.fields", "place.fields", "poll.fields", "expansions"}


class Problem(Exception):
    """A refusal, with the body that X gives."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, dict(body), dict(headers or {})


def invalid(message: str, parameter: str = "", value: object = "") -> Problem:
    """Return X's 400."""
    return Problem(
        400,
        {
            "errors": [{"parameters": {parameter: [str(value)]} if parameter else {}, "message": message}],
            "title": "Invalid Request",
            "detail": "One or more parameters to your request was invalid.",
            "type": PROBLEMS + "invalid-request",
        },
    )


def forbidden(detail: str, tail: str = "", title: str = "Forbidden") -> Problem:
    """Return X's 403, blank or with the tail of a problem."""
    kind = PROBLEMS + tail if tail else "about:blank"
    return Problem(403, {"detail": detail, "type": kind, "title": title, "status": 403})


def unauthorized() -> Problem:
    """Return X's 401."""
    return Problem(401, {"title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Unauthorized"})


def not_found(id_: str, kind: str = "tweet", parameter: str = "id") -> dict[str, Any]:
    """Return X's partial error for what is not there."""
    return {
        "value": id_,
        "detail": f"Could not find {kind} with {parameter}: [{id_}].",
        "title": "Not Found Error",
        "resource_type": kind,
        "parameter": parameter,
        "resource_id": id_,
        "type": PROBLEMS + "resource-not-found",
    }


def no_credits(account: str) -> dict[str, str]:
    """Return the body of X's 402."""
    detail = f"Your enrolled account [{account}] does not have any credits to fulfill this request."
    return {"title": "CreditsDepleted", "detail": detail, "type": PROBLEMS + "credits"}


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


class StrictX:
    """The state of X and its door. The first account owns the app."""

    def __init__(self, *accounts: str, names: str = "tweet", port: int = 0) -> None:
        self.clock = MovingClock()
        self.names = names
        self.balance: float | None = None
        self.billed: list[Bill] = []
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.limits = dict(LIMITS)
        self.read_lag = timedelta(0)
        self.search_edge = SEARCH_EDGE
        self.processing: tuple[str, ...] = ()
        self.media_life = timedelta(days=1)
        self.detect: Callable[[str], str] = lambda _text: "en"
        self.names_whom_it_answers = False
        self.is_gated = True
        self.api_key, self.api_secret = secrets.token_hex(12), secrets.token_hex(25)
        self.bearer_token = "AAAA" + secrets.token_hex(30)
        self.client_id, self.client_secret = secrets.token_urlsafe(16), secrets.token_urlsafe(32)
        self.token_life = timedelta(hours=2)
        self.accounts: dict[str, Account] = {}
        self.posts: dict[str, Post] = {}
        self.uploads: dict[str, Upload] = {}
        self.grants: dict[str, Grant] = {}
        self.refresh_tokens: dict[str, tuple[str, frozenset[str]]] = {}
        self.codes: dict[str, tuple[str, str]] = {}
        self.faults: list[Fault] = []
        self._nonces: set[str] = set()
        self._read: set[tuple[str, str, str]] = set()
        self._used: dict[tuple[str, str, int], int] = {}
        self._last_id = 0
        self.lock = threading.RLock()
        self._closing = threading.Event()
        for username in accounts or ("desk", "other"):
            self.add_account(username)
        self._server = _Server(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and whoever it keeps waiting."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ── What tests do and read ───────────────────────────────────────────────────────────────────────────────────────

    def add_account(self, username: str, *, followers: int = 0, protected: bool = False) -> Account:
        """Let somebody join, with the app's keys for them."""
        with self.lock:
            id_ = self._new_id()
            account = Account(
                id_, username, username.title(), f"{id_}-{secrets.token_hex(20)}", secrets.token_hex(22),
                self.clock.now() - timedelta(days=400), followers, protected,
            )  # fmt: skip
            self.accounts[username] = account
            return account

    def grant(self, username: str, *scopes: str) -> str:
        """Return a refresh token of this account, as its owner gave it to the app."""
        scopes = scopes or ("tweet.read", "tweet.write", "users.read", "media.write", "offline.access")
        token = secrets.token_urlsafe(40)
        self.refresh_tokens[token] = (username, frozenset(scopes))
        return token

    def authorize(self, username: str, challenge: str) -> str:
        """Return the code that the browser brings back after the owner said yes."""
        code = secrets.token_urlsafe(30)
        self.codes[code] = (username, challenge)
        return code

    def say(
        self,
        username: str,
        text: str,
        *,
        reply_to: str = "",
        quote: str = "",
        lang: str = "",
        at: datetime | None = None,
        visible_after: timedelta = timedelta(0),
        **metrics: int,
    ) -> Post:
        """Post as somebody, past all gates. `at` dates it, `visible_after` lets it come late into what is read."""
        with self.lock:
            post = self._make(self.accounts[username], text, reply_to=reply_to, quote=quote, lang=lang, at=at)
            post.visible_at = (at or self.clock.now()) + visible_after
            post.metrics |= metrics
            return post

    def repost(self, username: str, id_: str) -> Post:
        """Repost as somebody: its text is cut, and no keyword search shows it."""
        with self.lock:
            original = self.posts[id_]
            name = next(one.username for one in self.accounts.values() if one.id == original.author)
            text = f"RT @{name}: {original.typed}"
            post = self._make(self.accounts[username], text if len(text) <= 140 else text[:139] + "…")
            post.references = [("retweeted", id_)]
            original.metrics["retweet_count"] = original.metrics.get("retweet_count", 0) + 1
            return post

    def edit(self, id_: str, text: str) -> Post:
        """Edit a post: X gives it a new id, and the old version stays readable by its own."""
        with self.lock:
            old = self.posts[id_]
            author = next(one for one in self.accounts.values() if one.id == old.author)
            new = self._make(author, text)
            new.references, new.media, new.conversation = list(old.references), list(old.media), old.conversation
            versions = [*(old.versions or [old.id]), new.id]
            for version in versions:
                self.posts[version].versions = versions
            old.searchable = False
            return new

    def like(self, id_: str, times: int = 1) -> None:
        """Let people like a post."""
        metrics = self.posts[id_].metrics
        metrics["like_count"] = metrics.get("like_count", 0) + times

    def take_away(self, id_: str) -> None:
        """Delete a post, as its author in the app."""
        self.posts[id_].deleted = True

    def fail(self, route: str, kind: str, *, times: int = 1, seconds: float = 1.0) -> None:
        """Let the next requests whose “VERB /path” begins so fail in this way: see `_Handler`."""
        if kind not in FAULTS:
            raise ValueError(f"{kind} is none of {sorted(FAULTS)}")
        with self.lock:
            self.faults.append(Fault(route, kind, times, seconds))

    def standing(self, username: str) -> list[Post]:
        """Return what this account has out, oldest first."""
        owner = self.accounts[username].id
        with self.lock:
            return [one for one in self.posts.values() if one.author == owner and not one.deleted]

    def spent(self) -> float:
        """Return what X charged."""
        return round(sum(bill.price for bill in self.billed), 6)

    def user_secrets(self, username: str) -> dict[str, str]:
        """Return the four secrets of OAuth 1.0a for this account."""
        account = self.accounts[username]
        return {
            "API_KEY": self.api_key,
            "API_SECRET": self.api_secret,
            "ACCESS_TOKEN": account.access_token,
            "ACCESS_SECRET": account.access_secret,
        }

    def take_fault(self, first: str) -> Fault | None:
        """Return the fault that meets this request, used up by it."""
        with self.lock:
            for fault in self.faults:
                if first.startswith(fault.route):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def hold(self, seconds: float) -> bool:
        """Wait in real time, or until the server closes. Return False then."""
        return not self._closing.wait(seconds)

    # ── Who asks ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def caller(self, request: Request) -> Caller:
        """Return who signed this request. Raise Problem where nobody did."""
        given = request.headers.get("authorization", "")
        if given.startswith("OAuth "):
            return self._signed(request, given[6:])
        token = given.removeprefix("Bearer ")
        if not given.startswith("Bearer ") or not token:
            raise unauthorized()
        if hmac.compare_digest(token, self.bearer_token):
            return Caller(None, "OAuth 2.0 Application-Only")
        grant = self.grants.get(token)
        if grant is None or self.clock.now() >= grant.ends_at:
            raise unauthorized()
        return Caller(self.accounts[grant.account], "OAuth 2.0 User Context", grant.scopes)

    def _signed(self, request: Request, header: str) -> Caller:
        """Check an OAuth 1.0a signature over the address that the client signed."""
        found = dict(re.findall(r'(\w+)="([^"]*)"', header))
        given = {name: _unquoted(value) for name, value in found.items()}
        signature = given.pop("oauth_signature", "")
        account = next((a for a in self.accounts.values() if a.access_token == given.get("oauth_token")), None)
        is_fresh = abs(time.time() - int(given.get("oauth_timestamp") or 0)) < 300
        nonce = given.get("oauth_nonce", "")
        if account is None or given.get("oauth_consumer_key") != self.api_key or not is_fresh or not nonce:
            raise unauthorized()
        if given.get("oauth_signature_method") != "HMAC-SHA1" or nonce in self._nonces:
            raise unauthorized()
        original = request.headers.get("x-original-host")
        host = f"https://{original}" if original else f"http://{request.headers.get('host', '')}"
        pairs = [*given.items(), *request.query_pairs, *request.form_pairs]
        joined = "&".join(sorted(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs))
        base = "&".join(_quoted(part) for part in (request.verb, host + request.path, joined))
        key = f"{_quoted(self.api_secret)}&{_quoted(account.access_secret)}"
        right = base64.b64encode(hmac.new(key.encode(), base.encode(), hashlib.sha1).digest()).decode()
        if not hmac.compare_digest(right, signature):
            raise unauthorized()
        self._nonces.add(nonce)
        return Caller(account, "OAuth 1.0a User Context", frozenset({"*"}))

    def user(self, caller: Caller, *scopes: str) -> Account:
        """Return the user who asks. The app alone gets X's 403."""
        if caller.account is None:
            raise forbidden(
                f"Authenticating with {caller.way} is forbidden for this endpoint. Supported authentication types are "
                "[OAuth 1.0a User Context, OAuth 2.0 User Context].",
                "unsupported-authentication",
                "Unsupported Authentication",
            )
        if caller.account.suspended:
            raise forbidden("Your account is suspended and is not permitted to access this feature.")
        if "*" not in caller.scopes and not set(scopes) <= caller.scopes:
            raise forbidden("Your client app lacks a scope for this endpoint.", "client-forbidden", "Client Forbidden")
        return caller.account

    def tokens(self, request: Request) -> dict[str, Any]:
        """Answer POST /2/oauth2/token: each refresh token works once."""
        form = dict(request.form_pairs)
        given = request.headers.get("authorization", "")
        if given.startswith("Basic "):
            name, _, secret = base64.b64decode(given[6:]).decode().partition(":")
            if (name, secret) != (self.client_id, self.client_secret):
                raise Problem(
                    401, {"error": "unauthorized_client", "error_description": "Missing valid authorization header"}
                )
        elif form.get("client_id") != self.client_id:
            raise Problem(
                401, {"error": "unauthorized_client", "error_description": "Missing valid authorization header"}
            )
        bad = Problem(400, {"error": "invalid_request", "error_description": "Value passed for the token was invalid."})
        if form.get("grant_type") == "authorization_code":
            username, challenge = self.codes.pop(form.get("code", ""), ("", ""))
            digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            if not username or base64.urlsafe_b64encode(digest).decode().rstrip("=") != challenge:
                raise bad
            scopes = frozenset({"tweet.read", "tweet.write", "users.read", "media.write", "offline.access"})
        elif form.get("grant_type") == "refresh_token":
            username, scopes = self.refresh_tokens.pop(form.get("refresh_token", ""), ("", frozenset[str]()))
            if not username:
                raise bad
        else:
            raise bad
        access = secrets.token_urlsafe(48)
        self.grants[access] = Grant(username, scopes, self.clock.now() + self.token_life)
        return {
            "token_type": "bearer",
            "expires_in": int(self.token_life.total_seconds()),
            "access_token": access,
            "scope": " ".join(sorted(scopes)),
            "refresh_token": self.grant(username, *scopes),
        }

    # ── Money and limits ─────────────────────────────────────────────────────────────────────────────────────────────

    def afford(self, price: float) -> None:
        """Raise X's 402 where the balance does not cover it."""
        if self.balance is not None and self.balance < price:
            raise Problem(402, no_credits(next(iter(self.accounts.values())).id))

    def bill(self, what: str, resource: str) -> None:
        """Charge for a resource; what is read is charged once a day."""
        now = self.clock.now()
        if what.endswith("read"):
            key = (what, resource, now.date().isoformat())
            if key in self._read:
                return
            self._read.add(key)
        self.billed.append(Bill(now, what, resource, PRICES[what]))
        if self.balance is not None:
            self.balance = max(0.0, self.balance - PRICES[what])

    def count_request(self, family: str, caller: str) -> dict[str, str]:
        """Count it against its quarter of an hour and return the headers. Raise X's 429."""
        limit = self.limits[family]
        slot = int(self.clock.now().timestamp()) // 900
        used = self._used[family, caller, slot] = self._used.get((family, caller, slot), 0) + 1
        headers = {
            "x-rate-limit-limit": str(limit),
            "x-rate-limit-remaining": str(max(0, limit - used)),
            "x-rate-limit-reset": str((slot + 1) * 900),
        }
        if used > limit:
            raise Problem(429, TOO_MANY, headers)
        return headers

    # ── Posts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, request: Request, caller: Caller) -> tuple[int, dict[str, Any]]:
        """Answer POST /2/tweets."""
        author = self.user(caller, "tweet.read", "tweet.write", "users.read")
        body = request.json()
        for name in body:
            if name not in BODY:
                raise invalid(f"[{name}] is not a valid property of the request body.", name, body[name])
        text = body.get("text", "")
        media = (body.get("media") or {}).get("media_ids") or []
        if not isinstance(text, str) or not (text.strip() or media):
            raise invalid("Your Post must have text or media.", "text", text)
        if weight(text) > 280:
            raise invalid("Your Post text is too long.", "text", text)
        attached = self._attachable(author, media)
        reply_to = str((body.get("reply") or {}).get("in_reply_to_tweet_id") or "")
        quoted = str(body.get("quote_tweet_id") or body.get("quote_post_id") or "")
        self._gates(author, reply_to, quoted)
        typed = unicodedata.normalize("NFC", text).strip()
        if typed and any(one.typed == typed for one in self.standing(author.username)):
            raise forbidden(DUPLICATE)
        what = "create with link" if urls_of(typed) else "create"
        self.afford(PRICES[what])
        post = self._make(author, typed, reply_to=reply_to, quote=quoted, media=attached)
        self.bill(what, post.id)
        return 201, {"data": {"id": post.id, "text": post.text, self._name("edit_history_tweet_ids"): [post.id]}}

    def delete(self, id_: str, caller: Caller) -> dict[str, Any]:
        """Answer DELETE /2/tweets/:id."""
        author = self.user(caller, "tweet.write")
        post = self.posts.get(id_)
        if post is None or post.deleted:
            raise Problem(404, {**not_found(id_), "status": 404})
        if post.author != author.id:
            raise forbidden("You are not authorized to delete this Tweet.")
        self.afford(PRICES["delete"])
        post.deleted = True
        self.bill("delete", id_)
        return {"data": {"deleted": True}}

    def look_up(self, ids: Sequence[str], request: Request, caller: Caller, *, one: bool = False) -> dict[str, Any]:
        """Answer GET /2/tweets and GET /2/tweets/:id: what is not there is a partial error, with 200."""
        shape = Shape.of(request, self, {"ids"} if not one else set())
        if not one and not 1 <= len(ids) <= 100:
            raise invalid("The number of values in the `ids` query parameter list [0] is not between 1 and 100", "ids")
        for id_ in ids:
            if not re.fullmatch(r"[0-9]{1,19}", id_):
                raise invalid(f"The `id` query parameter value [{id_}] is not valid", "id", id_)
        found: list[Post] = []
        errors: list[dict[str, Any]] = []
        for id_ in ids:
            post = self.posts.get(id_)
            if post is None or post.deleted or not self._is_visible(post):
                errors.append(not_found(id_, parameter="id" if one else "ids"))
            elif self._author_of(post).protected or self._author_of(post).suspended:
                detail = f"Sorry, you are not authorized to see the Tweet with ids: [{id_}]."
                errors.append(
                    {**not_found(id_, parameter="ids"), "title": "Authorization Error", "detail": detail,
                     "type": PROBLEMS + "not-authorized-for-resource"}
                )  # fmt: skip
            else:
                found.append(post)
        answer = self.page(found, shape, caller)
        answer.pop("meta")
        if one and "data" in answer:
            answer["data"] = answer["data"][0]
        return {**answer, "errors": errors} if errors else answer

    def timeline(self, user: str, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer GET /2/users/:id/tweets: newest first, replies and reposts among them."""
        shape = Shape.of(request, self, {"max_results", "pagination_token", "exclude", *BOUNDS})
        limit = _whole(request, "max_results", 10, 5, 100)
        bounds = Bounds.of(request, self)
        excluded = set(request.one("exclude", "").split(",")) - {""}
        if not any(account.id == user for account in self.accounts.values()):
            return {"errors": [not_found(user, "user")]}
        posts = [
            post
            for post in self._newest_first(bounds)
            if post.author == user
            and not ("replies" in excluded and post.id_of("replied_to"))
            and not ("retweets" in excluded and post.id_of("retweeted"))
        ]
        return self._paged(posts, limit, request.one("pagination_token", ""), shape, caller, f"user {user}")

    def search(self, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer GET /2/tweets/search/recent."""
        shape = Shape.of(
            request, self, {"query", "max_results", "next_token", "pagination_token", "sort_order", *BOUNDS}
        )
        limit = _whole(request, "max_results", 10, 10, 100)
        words = _query_of(request)
        matches = Search(words, self).matches
        if request.one("sort_order", "recency") not in ("recency", "relevancy"):
            raise invalid("The `sort_order` query parameter is not valid", "sort_order")
        bounds = Bounds.of(request, self, week=True, edge=True)
        both = [request.one(name, "") for name in ("next_token", "pagination_token")]
        if all(both):
            raise invalid("At most one of `next_token`, `pagination_token` may be provided.", "next_token")
        posts = [post for post in self._newest_first(bounds) if post.searchable and matches(post)]
        return self._paged(posts, limit, both[0] or both[1], shape, caller, words)

    def counts(self, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer GET /2/tweets/counts/recent: buckets that add up to what a search of the same time shows."""
        if caller.account is not None and caller.way.startswith("OAuth 1"):
            raise forbidden("Authenticating with OAuth 1.0a User Context is forbidden for this endpoint.",
                            "unsupported-authentication", "Unsupported Authentication")  # fmt: skip
        request.refuse_but({"query", "granularity", "search_count.fields", *BOUNDS})
        words = _query_of(request)
        matches = Search(words, self).matches
        steps = {"minute": 60, "hour": 3_600, "day": 86_400}
        step = steps.get(request.one("granularity", "hour"))
        if step is None:
            raise invalid("The `granularity` query parameter is not valid", "granularity")
        bounds = Bounds.of(request, self, week=True, edge=True)
        self.afford(PRICES["counts"])
        now = self.clock.now()
        start = bounds.start or now - WEEK
        end = bounds.end or now - self.search_edge
        made = [post.created_at for post in self._newest_first(bounds, hidden=True) if matches(post)]
        rows: list[dict[str, Any]] = []
        while start < end:
            following = datetime.fromtimestamp((int(start.timestamp()) // step + 1) * step, UTC)
            close = min(following, end)
            number = sum(1 for moment in made if start <= moment < close)
            rows.append({"start": stamp(start), "end": stamp(close), self._name("tweet_count"): number})
            start = close
        self.bill("counts", words)
        return {
            "data": rows,
            "meta": {self._name("total_tweet_count"): sum(row[self._name("tweet_count")] for row in rows)},
        }

    def reposts(self, id_: str, request: Request, caller: Caller, *, people: bool) -> dict[str, Any]:
        """Answer /2/tweets/:id/retweeted_by (people) and /2/tweets/:id/retweets (posts)."""
        shape = Shape.of(request, self, {"max_results", "pagination_token"})
        limit = _whole(request, "max_results", 100, 1, 100)
        posts = [one for one in self._newest_first(Bounds()) if one.id_of("retweeted") == id_]
        if not people:
            return self._paged(posts, limit, request.one("pagination_token", ""), shape, caller, f"reposts {id_}")
        answer: dict[str, Any] = {"meta": {"result_count": len(posts)}}
        for post in posts:
            self._bill_author(post, caller)
        return {"data": [shape.user(self._author_of(post)) for post in posts], **answer} if posts else answer

    def quotes(self, id_: str, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer GET /2/tweets/:id/quote_tweets."""
        shape = Shape.of(request, self, {"max_results", "pagination_token", "exclude"})
        limit = _whole(request, "max_results", 10, 10, 100)
        posts = [one for one in self._newest_first(Bounds()) if one.id_of("quoted") == id_]
        return self._paged(posts, limit, request.one("pagination_token", ""), shape, caller, f"quotes {id_}")

    def page(self, posts: Sequence[Post], shape: Shape, caller: Caller) -> dict[str, Any]:
        """Return posts as X shows them, with what they ask to be expanded. Everything shown is charged."""
        if posts:
            self.afford(PRICES["owned read"])
        answer: dict[str, Any] = {"meta": {"result_count": len(posts)}}
        if not posts:
            return answer
        users: dict[str, Account] = {}
        beside: dict[str, Post] = {}
        media: dict[str, Upload] = {}
        by_id = {account.id: account for account in self.accounts.values()}
        for post in posts:
            self._bill_post(post, caller)
            if "author_id" in shape.expansions:
                users[post.author] = by_id[post.author]
            if shape.expansions & {"referenced_tweets.id", "referenced_posts"}:
                beside |= {id_: self.posts[id_] for _, id_ in post.references if self._is_shown(id_)}
            if shape.expansions & {"edit_history_tweet_ids", "edit_history_post_ids"}:
                beside |= {id_: self.posts[id_] for id_ in post.versions if id_ != post.id}
            parent = self.posts.get(post.id_of("replied_to"))
            if "in_reply_to_user_id" in shape.expansions and parent:
                users[parent.author] = by_id[parent.author]
            if "entities.mentions.username" in shape.expansions:
                users |= {m["id"]: by_id[m["id"]] for m in post.entities.get("mentions", []) if m["id"] in by_id}
            if "attachments.media_keys" in shape.expansions:
                media |= {key: one for key in post.media for one in self.uploads.values() if one.key == key}
        if "referenced_tweets.id.author_id" in shape.expansions:
            beside |= {id_: self.posts[id_] for post in posts for _, id_ in post.references if self._is_shown(id_)}
            users |= {post.author: by_id[post.author] for post in beside.values()}
        for post in beside.values():
            self._bill_post(post, caller)
        for user in users.values():
            self.bill("owned read" if self._is_owned(user.id, caller) else "author read", f"user {user.id}")
        includes: dict[str, Any] = {
            "users": [shape.user(user) for user in users.values()],
            self._name("tweets"): [shape.post(post) for post in beside.values()],
            "media": [shape.medium(one) for one in media.values()],
        }
        answer["data"] = [shape.post(post) for post in posts]
        if shown := {name: rows for name, rows in includes.items() if rows}:
            answer["includes"] = shown
        return answer

    def _paged(
        self, posts: Sequence[Post], limit: int, token: str, shape: Shape, caller: Caller, about: str
    ) -> dict[str, Any]:
        if token:
            below = _below(token, about)
            posts = [post for post in posts if int(post.id) < below]
        here = posts[:limit]
        answer = self.page(here, shape, caller)
        if here:
            answer["meta"] |= {"newest_id": here[0].id, "oldest_id": here[-1].id}
        if len(posts) > limit:
            answer["meta"]["next_token"] = _token(about, here[-1].id)
        return answer

    def _make(
        self,
        author: Account,
        typed: str,
        *,
        reply_to: str = "",
        quote: str = "",
        media: Sequence[str] = (),
        lang: str = "",
        at: datetime | None = None,
    ) -> Post:
        id_ = self._new_id(at)
        moment = datetime.fromtimestamp(((int(id_) >> 22) + EPOCH_MS) / 1000, UTC)
        references = [(kind, other) for kind, other in (("replied_to", reply_to), ("quoted", quote)) if other]
        parent = self.posts.get(reply_to)
        shown = typed
        if parent and self.names_whom_it_answers and parent.author != author.id:
            shown = f"@{self._author_of(parent).username} {typed}"
        text, entities = self._folded(shown, id_, author, media)
        post = Post(
            id_, author.id, typed, text, entities, moment, lang or self.detect(typed),
            parent.conversation if parent else id_, references, list(media), visible_at=moment + self.read_lag,
        )  # fmt: skip
        for kind, other in references:
            if other in self.posts:
                name = {"replied_to": "reply_count", "quoted": "quote_count"}[kind]
                metrics = self.posts[other].metrics
                metrics[name] = metrics.get(name, 0) + 1
        self.posts[id_] = post
        return post

    def _folded(
        self, typed: str, id_: str, author: Account, media: Sequence[str]
    ) -> tuple[str, dict[str, list[dict[str, Any]]]]:
        """Return the text as the API shows it: links folded to t.co, signs escaped, pictures as a link at the end."""
        entities: dict[str, list[dict[str, Any]]] = {}
        text, rest = "", 0
        for start, end in urls_of(typed):
            link = typed[start:end]
            full = link if "://" in link else f"http://{link}"
            short = f"https://t.co/{secrets.token_urlsafe(7)[:10].replace('-', 'x').replace('_', 'y')}"
            text += _escaped(typed[rest:start])
            shown = full.split("://", 1)[1]
            entities.setdefault("urls", []).append(
                {"start": len(text), "end": len(text) + len(short), "url": short, "expanded_url": full,
                 "display_url": shown if len(shown) <= 26 else shown[:26] + "…"}
            )  # fmt: skip
            text, rest = text + short, end
        text += _escaped(typed[rest:])
        if media:
            short = f"https://t.co/{secrets.token_hex(5)}"
            begin = len(text) + bool(text)
            text = f"{text} {short}" if text else short
            for number, key in enumerate(media, 1):
                entities.setdefault("urls", []).append(
                    {"start": begin, "end": begin + len(short), "url": short, "media_key": key,
                     "expanded_url": f"https://x.com/{author.username}/status/{id_}/photo/{number}",
                     "display_url": f"pic.x.com/{short[-10:]}"}
                )  # fmt: skip
        for match in TAG.finditer(typed):
            if not any(start <= match.start() < end for start, end in urls_of(typed)):
                entities.setdefault("hashtags", []).append(
                    {"start": match.start(), "end": match.end(), "tag": match[1]}
                )
        for match in re.finditer(r"(?<![\w@])@(\w{1,15})", typed):
            account = self.accounts.get(match[1].lower())
            if account:
                entities.setdefault("mentions", []).append(
                    {"start": match.start(), "end": match.end(), "username": account.username, "id": account.id}
                )
        return text, entities

    def _gates(self, author: Account, reply_to: str, quoted: str) -> None:
        """Self-serve access answers and quotes only its own, and those who mentioned or quoted it."""
        if reply_to:
            parent = self.posts.get(reply_to)
            if parent is None or parent.deleted:
                raise forbidden("You attempted to reply to a Tweet that is deleted or not visible to you.")
            if self.is_gated and parent.author != author.id and not self._engaged(parent, author):
                raise forbidden(REPLY_GATE)
        if quoted and self.is_gated:
            other = self.posts.get(quoted)
            if other is None or other.author != author.id:
                raise forbidden(QUOTE_GATE)

    def _engaged(self, parent: Post, author: Account) -> bool:
        quoted = self.posts.get(parent.id_of("quoted"))
        named = any(one["id"] == author.id for one in parent.entities.get("mentions", []))
        return named or (quoted is not None and quoted.author == author.id)

    def _newest_first(self, bounds: Bounds, *, hidden: bool = False) -> Iterator[Post]:
        """Yield what can be read: visible by now, standing, of public accounts; ids in order, as numbers."""
        public = {one.id for one in self.accounts.values() if not one.protected and not one.suspended}
        for post in sorted(self.posts.values(), key=lambda one: int(one.id), reverse=True):
            if post.deleted or post.author not in public or not bounds.hold(post):
                continue
            if post.versions and post.id != post.versions[-1]:
                continue
            if hidden or self._is_visible(post):
                yield post

    def _is_visible(self, post: Post) -> bool:
        return post.visible_at is None or post.visible_at <= self.clock.now()

    def _is_shown(self, id_: str) -> bool:
        return id_ in self.posts and not self.posts[id_].deleted

    def _author_of(self, post: Post) -> Account:
        return next(account for account in self.accounts.values() if account.id == post.author)

    def _is_owned(self, user: str, caller: Caller) -> bool:
        owner = next(iter(self.accounts.values()))
        return caller.account is owner and user == owner.id

    def _bill_post(self, post: Post, caller: Caller) -> None:
        self.bill("owned read" if self._is_owned(post.author, caller) else "post read", f"post {post.id}")

    def _bill_author(self, post: Post, caller: Caller) -> None:
        self.bill("owned read" if self._is_owned(post.author, caller) else "author read", f"user {post.author}")

    def _new_id(self, at: datetime | None = None) -> str:
        milliseconds = int((at or self.clock.now()).timestamp() * 1000) - EPOCH_MS
        id_ = milliseconds << 22 | (len(self.posts) + len(self.uploads)) & 0xFFF
        if at is None:
            id_ = max(id_, self._last_id + 1)
        while str(id_) in self.posts:
            id_ += 1
        self._last_id = max(self._last_id, id_)
        return str(id_)

    def _name(self, name: str) -> str:
        return POST_NAMES.get(name, name) if self.names == "post" else name

    # ── Media ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def initialize(self, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer POST /2/media/upload/initialize."""
        owner = self.user(caller, "media.write")
        body = request.json()
        mime, size, category = body.get("media_type"), body.get("total_bytes"), body.get("media_category")
        if mime not in MAGIC:
            raise invalid("media_type is not supported", "media_type", mime)
        if category not in ("tweet_image", "tweet_gif") or (category == "tweet_gif") != (mime == "image/gif"):
            raise invalid("media_category does not fit media_type", "media_category", category)
        most = 15_000_000 if category == "tweet_gif" else 5_000_000
        if not isinstance(size, int) or not 0 < size <= most:
            raise invalid(f"File size exceeds {most} bytes.", "total_bytes", size)
        upload = Upload(self._new_id(), owner.id, mime, size, category, self.clock.now() + self.media_life)
        self.uploads[upload.id] = upload
        return self._told(upload)

    def append(self, id_: str, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer POST /2/media/upload/:id/append: a form of parts, or JSON with base64."""
        upload = self._upload(id_, self.user(caller, "media.write"))
        if upload.state != "begun":
            raise invalid("Segments can only be appended before FINALIZE.", "media_id", id_)
        index, piece = request.piece()
        if not 0 <= index <= 999 or index in upload.pieces or not piece:
            raise invalid("segment_index is not valid", "segment_index", index)
        if len(piece) > 5_000_000:
            raise Problem(413, {"title": "Payload Too Large", "detail": "Payload Too Large", "type": "about:blank"})
        upload.pieces[index] = piece
        return {"data": {"expires_at": int(upload.expires_at.timestamp())}}

    def finalize(self, id_: str, caller: Caller) -> dict[str, Any]:
        """Answer POST /2/media/upload/:id/finalize: all bytes, in one row of segments, of the kind they claim."""
        upload = self._upload(id_, self.user(caller, "media.write"))
        if upload.state != "begun" or sorted(upload.pieces) != list(range(len(upload.pieces))):
            raise invalid("Segments do not add up to provided total file size.", "media_id", id_)
        if len(upload.content) != upload.size:
            raise invalid("Segments do not add up to provided total file size.", "media_id", id_)
        is_right = upload.content.startswith(MAGIC[upload.mime])
        upload.steps = deque(self.processing if is_right else (*self.processing, "failed"))
        upload.state = upload.steps.popleft() if upload.steps else "succeeded"
        return self._told(upload)

    def status(self, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer GET /2/media/upload?command=STATUS."""
        owner = self.user(caller, "media.write")
        request.refuse_but({"command", "media_id"})
        if request.one("command", "STATUS") != "STATUS":
            raise invalid("command is not valid", "command")
        upload = self._upload(request.one("media_id", ""), owner)
        if upload.state in ("pending", "in_progress"):
            upload.state = upload.steps.popleft() if upload.steps else "succeeded"
        return self._told(upload, whole=True)

    def describe(self, request: Request, caller: Caller) -> dict[str, Any]:
        """Answer POST /2/media/metadata."""
        owner = self.user(caller, "media.write")
        body = request.json()
        upload = self._upload(str(body.get("id", "")), owner)
        text = ((body.get("metadata") or {}).get("alt_text") or {}).get("text")
        if upload.state != "succeeded":
            raise invalid("Media is not ready.", "id", upload.id)
        if not isinstance(text, str) or not 0 < len(text) <= 1_000:
            raise invalid("alt_text.text must have 1 to 1000 characters", "metadata.alt_text.text", text)
        self.afford(PRICES["metadata"])
        upload.alt = text
        self.bill("metadata", upload.id)
        return {"data": {"id": upload.id, "associated_metadata": {"alt_text": {"text": text}}}}

    def _told(self, upload: Upload, *, whole: bool = False) -> dict[str, Any]:
        left = int((upload.expires_at - self.clock.now()).total_seconds())
        data: dict[str, Any] = {"id": upload.id, "media_key": upload.key, "expires_after_secs": left}
        if upload.state in ("pending", "in_progress"):
            data["processing_info"] = {"state": upload.state, "check_after_secs": 1, "progress_percent": 50}
        elif upload.state == "failed":
            error = {"code": 1, "name": "InvalidMedia", "message": "Unsupported file"}
            data["processing_info"] = {"state": "failed", "error": error}
        elif upload.state == "succeeded" and whole:
            data["processing_info"] = {"state": "succeeded", "progress_percent": 100}
        return {"data": data}

    def _upload(self, id_: str, owner: Account) -> Upload:
        upload = self.uploads.get(id_)
        if upload is None or upload.owner != owner.id or self.clock.now() >= upload.expires_at:
            raise invalid("Media id is not valid or has expired.", "media_id", id_)
        return upload

    def _attachable(self, author: Account, ids: Sequence[Any]) -> list[str]:
        if not isinstance(ids, list) or len(ids) > 4:
            raise invalid("media.media_ids must have 1 to 4 ids", "media.media_ids", ids)
        keys = []
        for id_ in ids:
            upload = self.uploads.get(id_) if isinstance(id_, str) else None
            is_usable = upload is not None and upload.owner == author.id and upload.state == "succeeded"
            if upload is None or not is_usable or self.clock.now() >= upload.expires_at:
                raise invalid("Your media IDs are invalid.", "media.media_ids", id_)
            keys.append(upload.key)
        return keys


TOO_MANY = {"title": "Too Many Requests", "detail": "Too Many Requests", "type": "about:blank", "status": 429}
USAGE_CAP = {
    "title": "UsageCapExceeded", "detail": "Usage cap exceeded: Monthly product cap", "type": PROBLEMS + "usage-capped",
    "period": "Monthly", "scope": "Product",
}  # fmt: skip
POST_NAMES = {
    "edit_history_tweet_ids": "edit_history_post_ids",
    "referenced_tweets": "referenced_posts",
    "tweets": "posts",
    "retweet_count": "repost_count",
    "tweet_count": "post_count",
    "total_tweet_count": "total_post_count",
}
TAG = re.compile(r"(?<![\w&])[#＃](\w*[^\W\d]\w*)")
_URL = re.compile(
    r"https?://[^\s<>\"“”]+[^\s<>\"“”.,;:!?)'\]]"
    r"|(?<![@\w./#-])(?:[a-zA-Z0-9][a-zA-Z0-9-]*\.)+(?:org|com|net|md|main|io|uk|tz|example|Next)(?![\w@-])(?:/[^\s]*[^\s.,;:!?)])?"
)


def urls_of(text: str) -> list[tuple[int, int]]:
    """Return where X sees links: with a scheme, and bare domains of well-known ends."""
    return [match.span() for match in _URL.finditer(text)]


def weight(text: str) -> int:
    """Return what the text weighs, roughly: links 23, light scripts 1, all else 2, an emoji 2 with all its joins."""
    text = unicodedata.normalize("NFC", text)
    total = 0
    for start, end in reversed(urls_of(text)):
        total += 23
        text = text[:start] + text[end:]
    text = re.sub(r"\u200d[\u2600-\U0001faff]|[\ufe0f\U0001f3fb-\U0001f3ff]", "", text)
    light = re.compile(r"[\u0000-\u10FF\u2000-\u200D\u2010-\u201F\u2032-\u2037]")
    return total + sum(1 if light.match(sign) else 2 for sign in text)


def stamp(moment: datetime) -> str:
    """Return a moment as X writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _quoted(text: str) -> str:
    return quote(text, safe="~")


def _unquoted(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda hit: chr(int(hit[1], 16)), text)


def _token(about: str, id_: str) -> str:
    digest = hashlib.sha256(about.encode()).hexdigest()[:8]
    return base64.b32hexencode(f"{digest}:{id_}".encode()).decode().rstrip("=").lower()


def _below(token: str, about: str) -> int:
    try:
        padded = token.upper() + "=" * (-len(token) % 8)
        digest, _, id_ = base64.b32hexdecode(padded).decode().partition(":")
        if digest == hashlib.sha256(about.encode()).hexdigest()[:8]:
            return int(id_)
    except ValueError:
        pass
    raise invalid(f"The `next_token` query parameter value [{token}] is not valid", "next_token", token)


def _whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    value = request.one(name, str(default))
    if not value.isdigit() or not least <= int(value) <= most:
        raise invalid(f"The `{name}` query parameter value [{value}] is not between {least} and {most}", name, value)
    return int(value)


def _query_of(request: Request) -> str:
    words = request.one("query", "")
    if not words.strip():
        raise invalid("The `query` query parameter can not be empty", "query")
    if len(words) > 512:
        raise invalid("The `query` query parameter value is too long: at most 512 characters", "query", words)
    return words


BOUNDS = ("start_time", "end_time", "since_id", "until_id")


@dataclass(frozen=True)
class Bounds:
    """A stretch of time or ids. Ids are compared as numbers."""

    start: datetime | None = None
    end: datetime | None = None
    since: int | None = None
    until: int | None = None

    @classmethod
    def of(cls, request: Request, x: StrictX, *, week: bool = False, edge: bool = False) -> Bounds:
        """Read and check the bounds of a request."""
        now = x.clock.now()
        for pair in (("start_time", "since_id"), ("end_time", "until_id")):
            if all(request.one(name, "") for name in pair):
                raise invalid(f"At most one of `{pair[0]}`, `{pair[1]}` may be provided.", pair[0])
        start, end = _moment(request, "start_time"), _moment(request, "end_time")
        since, until = _id(request, "since_id"), _id(request, "until_id")
        wall = now - WEEK
        if week and start and start < wall:
            raise invalid(f"'start_time' must be on or after {stamp(wall)}", "start_time", stamp(start))
        oldest = (int(wall.timestamp() * 1000) - EPOCH_MS) << 22
        if week and since is not None and since < oldest:
            raise invalid(f"'since_id' must be a tweet id created after {stamp(wall)}", "since_id", since)
        if edge and end and end > now - timedelta(seconds=10):
            raise invalid(
                "'end_time' must be a minimum of 10 seconds prior to the request time", "end_time", stamp(end)
            )
        if start and end and start >= end:
            raise invalid("'end_time' must be after 'start_time'", "end_time")
        if edge and end is None and since is None and until is None:
            end = now - x.search_edge
        return cls(start, end, since, until)

    def hold(self, post: Post) -> bool:
        """Return True when the post is inside: from `start` on, before `end`, above `since`, below `until`."""
        if (self.start and post.created_at < self.start) or (self.end and post.created_at >= self.end):
            return False
        above = self.since is None or int(post.id) > self.since
        return above and (self.until is None or int(post.id) < self.until)


def _moment(request: Request, name: str) -> datetime | None:
    value = request.one(name, "")
    if not value:
        return None
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z", value):
        raise invalid(f"The `{name}` query parameter value [{value}] is not valid", name, value)
    return datetime.fromisoformat(value)


def _id(request: Request, name: str) -> int | None:
    value = request.one(name, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise invalid(f"The `{name}` query parameter value [{value}] is not valid", name, value)
    return int(value)


@dataclass
class Shape:
    """What a reader wants to see of posts, accounts and media."""

    x: StrictX
    tweet: set[str]
    people: set[str]
    media: set[str]
    expansions: set[str]

    @classmethod
    def of(cls, request: Request, x: StrictX, more: set[str]) -> Shape:
        """Read and check fields and expansions, in both vocabularies; every other parameter is refused."""
        request.refuse_but({*SHAPE, *more})
        tweet = _listed(request, "tweet.fields") | _listed(request, "post.fields")
        both = TWEET_FIELDS | {POST_NAMES.get(name, name) for name in TWEET_FIELDS}
        wanted = (
            ("tweet.fields", tweet, both),
            ("user.fields", _listed(request, "user.fields"), USER_FIELDS),
            ("media.fields", _listed(request, "media.fields"), MEDIA_FIELDS),
            ("expansions", _listed(request, "expansions"), EXPANSIONS),
        )
        for name, given, known in wanted:
            if given - known:
                wrong = sorted(given - known)[0]
                raise invalid(
                    f"The `{name}` query parameter value [{wrong}] is not one of [{','.join(sorted(known))}]",
                    name,
                    wrong,
                )
        old = {new: name for name, new in POST_NAMES.items()}
        return cls(x, {old.get(name, name) for name in tweet}, wanted[1][1], wanted[2][1], wanted[3][1])

    def post(self, post: Post) -> dict[str, Any]:
        """Return a post: id, text and its versions always, all else on demand."""
        metrics = {name: post.metrics.get(name, 0) for name in METRICS}
        parent = self.x.posts.get(post.id_of("replied_to"))
        all_: dict[str, Any] = {
            "created_at": stamp(post.created_at).replace(stamp(post.created_at)[-5:], ".000Z"),
            "author_id": post.author,
            "conversation_id": post.conversation,
            "lang": post.lang,
            "entities": post.entities,
            "public_metrics": {self._name(name): number for name, number in metrics.items()},
            "referenced_tweets": [{"type": kind, "id": id_} for kind, id_ in post.references],
            "in_reply_to_user_id": parent.author if parent else "",
            "attachments": {"media_keys": post.media} if post.media else {},
            "possibly_sensitive": False,
            "reply_settings": "everyone",
            "source": "strict",
            "withheld": {"copyright": False, "country_codes": list(post.withheld)} if post.withheld else {},
        }
        shown = {
            self._name(name): value for name, value in all_.items() if name in self.tweet and value not in ({}, [], "")
        }
        return {
            "id": post.id,
            "text": post.text,
            self._name("edit_history_tweet_ids"): post.versions or [post.id],
        } | shown

    def user(self, account: Account) -> dict[str, Any]:
        """Return an account: id, name and username always."""
        made = sum(1 for post in self.x.posts.values() if post.author == account.id)
        metrics = {
            "followers_count": account.followers,
            "following_count": 10,
            self._name("tweet_count"): made,
            "listed_count": 0,
        }
        all_: dict[str, Any] = {
            "created_at": stamp(account.created_at).replace(stamp(account.created_at)[-5:], ".000Z"),
            "protected": account.protected,
            "public_metrics": metrics,
            "verified": False,
            "description": "",
        }
        always = {"id": account.id, "name": account.name, "username": account.username}
        return always | {name: value for name, value in all_.items() if name in self.people}

    def medium(self, upload: Upload) -> dict[str, Any]:
        """Return a picture: key and type always, its alt text on demand."""
        kind = "animated_gif" if upload.category == "tweet_gif" else "photo"
        all_ = {"alt_text": upload.alt, "url": f"https://pbs.twimg.com/media/{upload.id}.png"}
        return {"media_key": upload.key, "type": kind} | {
            name: v for name, v in all_.items() if name in self.media and v
        }

    def _name(self, name: str) -> str:
        return POST_NAMES.get(name, name) if self.x.names == "post" else name


def _listed(request: Request, name: str) -> set[str]:
    return {one for one in request.one(name, "").split(",") if one}


class Search:
    """X's query language: words, "phrases", #tag, @name, operators, OR, -, brackets. AND binds tighter than OR."""

    _TOKEN = re.compile(r'\s*(?:(?P<sign>[()])|(?P<minus>-)(?=\S)|(?P<phrase>"[^"]*")|(?P<word>[^\s()"]+))')

    def __init__(self, words: str, x: StrictX) -> None:
        self._words, self._x = words, x
        self._tokens = self._cut()
        self._place = 0
        self._has_keyword = self._stands_alone = False
        self._test = self._either()
        if self._place < len(self._tokens):
            raise self._wrong("unbalanced bracket")
        if not self._stands_alone:
            raise self._wrong("a query needs one operator that stands alone")

    def matches(self, post: Post) -> bool:
        """Return True when the post is found. A search for words finds no repost, since May 2026."""
        if self._has_keyword and post.id_of("retweeted"):
            return False
        return self._test(post)

    def _cut(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        place, words = 0, self._words.rstrip()
        while place < len(words):
            match = self._TOKEN.match(words, place)
            if match is None or match.lastgroup is None:
                raise self._wrong(f"no viable alternative at character {place}")
            tokens.append((match.lastgroup, match[match.lastgroup]))
            place = match.end()
        return tokens

    def _wrong(self, why: str) -> Problem:
        return invalid(f"There were errors processing your request: {why}", "query", self._words)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "")

    def _either(self) -> Callable[[Post], bool]:
        tests = [self._all()]
        while self._peek() == ("word", "OR"):
            self._place += 1
            tests.append(self._all())
        return lambda post: any(test(post) for test in tests)

    def _all(self) -> Callable[[Post], bool]:
        tests = []
        while self._peek()[0] != "end" and self._peek() not in (("word", "OR"), ("sign", ")")):
            tests.append(self._one())
        if not tests:
            raise self._wrong("missing operand")
        return lambda post: all(test(post) for test in tests)

    def _one(self, *, negated: bool = False) -> Callable[[Post], bool]:
        kind, value = self._peek()
        self._place += 1
        if kind == "minus":
            test = self._one(negated=True)
            return lambda post: not test(post)
        if (kind, value) == ("sign", "("):
            if negated:
                raise self._wrong("a group cannot be negated")
            test = self._either()
            if self._peek() != ("sign", ")"):
                raise self._wrong("unbalanced bracket")
            self._place += 1
            return test
        if kind == "phrase":
            return self._keyword(value.strip('"'), negated=negated)
        if kind != "word":
            raise self._wrong(f"unexpected {value}")
        return self._term(value, negated=negated)

    def _term(self, word: str, *, negated: bool) -> Callable[[Post], bool]:
        name, colon, value = word.partition(":")
        if not colon:
            return self._keyword(word, negated=negated)
        tests: dict[str, Callable[[str], Callable[[Post], bool]]] = {
            "from": self._from,
            "lang": lambda lang: lambda post: post.lang == lang,
            "conversation_id": lambda id_: lambda post: post.conversation == id_,
            "is": self._is,
            "has": self._has,
        }
        if name not in tests or not value:
            raise self._wrong(f"Reference to invalid operator '{name}'")
        self._stands_alone |= not negated and name in ("from", "conversation_id")
        return tests[name](value)

    def _keyword(self, words: str, *, negated: bool) -> Callable[[Post], bool]:
        self._has_keyword = True
        self._stands_alone |= not negated
        folded = unicodedata.normalize("NFC", words).casefold()
        if folded[:1] in "#＃" and len(folded) > 1 and re.fullmatch(r"\w+", folded[1:]):
            return lambda post: folded[1:] in {one["tag"].casefold() for one in post.entities.get("hashtags", [])}
        if folded.startswith("@"):
            return lambda post: folded[1:] in {one["username"].casefold() for one in post.entities.get("mentions", [])}
        wanted = re.findall(r"\w+", folded)
        if not wanted:
            raise self._wrong(f"'{words}' has nothing to search for")
        return lambda post: _has_run(re.findall(r"\w+", post.typed.casefold()), wanted)

    def _from(self, name: str) -> Callable[[Post], bool]:
        return lambda post: name.lstrip("@").casefold() in (self._x._author_of(post).username.casefold(), post.author)

    def _is(self, value: str) -> Callable[[Post], bool]:
        kinds = {"retweet": "retweeted", "reply": "replied_to", "quote": "quoted"}
        if value not in kinds:
            raise self._wrong(f"Reference to invalid operator 'is:{value}'")
        return lambda post: bool(post.id_of(kinds[value]))

    def _has(self, value: str) -> Callable[[Post], bool]:
        tests: dict[str, Callable[[Post], bool]] = {
            "hashtags": lambda post: bool(post.entities.get("hashtags")),
            "links": lambda post: bool(post.entities.get("urls")),
            "mentions": lambda post: bool(post.entities.get("mentions")),
            "media": lambda post: bool(post.media),
            "images": lambda post: bool(post.media),
        }
        if value not in tests:
            raise self._wrong(f"Reference to invalid operator 'has:{value}'")
        return tests[value]


def _has_run(words: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(list(words[at : at + len(wanted)]) == list(wanted) for at in range(len(words) - len(wanted) + 1))


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    verb: str
    path: str
    query_pairs: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form_pairs(self) -> list[tuple[str, str]]:
        """The fields of a form, which OAuth 1.0a signs too."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return []
        return parse_qsl(self.body.decode(), keep_blank_values=True)

    def one(self, name: str, default: str) -> str:
        """Return a parameter. One that comes twice is refused."""
        found = [value for key, value in self.query_pairs if key == name]
        if len(found) > 1:
            raise invalid(f"The query parameter [{name}] was given twice", name)
        return found[0] if found else default

    def refuse_but(self, known: set[str]) -> None:
        """Refuse what X does not know."""
        for name, value in self.query_pairs:
            if name not in known:
                words = f"The query parameter [{name}] is not one of [{','.join(sorted(known))}]"
                raise invalid(words, name, value)

    def json(self) -> dict[str, Any]:
        """Return the body's object."""
        if not self.headers.get("content-type", "").startswith("application/json"):
            raise invalid("Requests with bodies must have content-type of application/json.")
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise invalid("The body of the request is no JSON object.")
        return value

    def piece(self) -> tuple[int, bytes]:
        """Return the index and the bytes of one segment."""
        kind = self.headers.get("content-type", "")
        if kind.startswith("application/json"):
            body = self.json()
            return int(body.get("segment_index", -1)), base64.b64decode(str(body.get("media", "")))
        if not kind.startswith("multipart/form-data"):
            raise invalid("append wants multipart/form-data")
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        parts = {}
        for part in BytesParser(policy=HTTP).parsebytes(head + self.body).iter_parts():
            parts[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True)
        if set(parts) != {"media", "segment_index"}:
            raise invalid(f"append wants media and segment_index, not {sorted(map(str, parts))}")
        index = bytes(parts["segment_index"]).decode()
        return (int(index) if index.isdigit() else -1), bytes(parts["media"])


FAULTS = frozenset(
    {
        "lose", "cut", "cut json", "list", "no id", "drip", "silence", "500", "503", "503 made", "html", "html 403",
        "429", "429 missing", "429 past", "429 day", "429 code", "429 cap", "402", "401", "403 bare", "redirect",
        "close", "short page",
    }
)  # fmt: skip
MADE = frozenset({"lose", "cut", "cut json", "list", "no id", "drip", "503 made", "short page"})
"""Faults that come after the deed."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went is no news


def _handler(x: StrictX) -> type[_Handler]:
    return type("Handler", (_Handler,), {"x": x})


class _Handler(BaseHTTPRequestHandler):
    """The door: reads a request, lets the state answer, and fails where it is told to."""

    x: StrictX
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.x.clock.now().timestamp() if timestamp is None else timestamp)

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:  # the client went in the middle of its request: nothing was asked
            self._hang_up()
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        request = Request(self.command, parts.path, pairs, headers, body)
        if parts.path.startswith("/strict/"):
            self._answer(200, _obey(self.x, parts.path.removeprefix("/strict/"), body), {})
            return
        first = f"{request.verb} {request.path}"
        self.x.requests.append(first)
        fault = self.x.take_fault(first)
        if fault is not None and fault.kind not in MADE:
            self._refuse(fault)
            return
        try:
            with self.x.lock:
                status, answer, more = _route(self.x, request)
        except Problem as problem:
            self.x.problems.append(f"{first}: {problem}")
            self._answer(problem.status, problem.body, problem.headers)
            return
        if fault is not None:
            self._spoil(fault, status, answer)
        else:
            self._answer(status, answer, more)

    def _answer(self, status: int, body: object, more: Mapping[str, str], kind: str = "application/json") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        headers = {"Content-Type": f"{kind}; charset=utf-8", **more}
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(content) > 500:
            content = gzip.compress(content)
            headers["Content-Encoding"] = "gzip"
        self._head(status, {**headers, "Content-Length": str(len(content))})
        with suppress(OSError):
            self.wfile.write(content)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        with suppress(OSError):
            self.end_headers()

    def _refuse(self, fault: Fault) -> None:
        """Fail without having done anything."""
        now = int(self.x.clock.now().timestamp())
        windows = {"limit": "100", "remaining": "0"}
        spent = {f"x-rate-limit-{name}": value for name, value in windows.items()}
        match fault.kind:
            case "silence":
                self.x.hold(fault.seconds)
                self._hang_up()
            case "close":
                self._hang_up()
            case "500" | "503":
                detail = {"500": "Internal Server Error", "503": "Service Unavailable"}[fault.kind]
                self._answer(
                    int(fault.kind),
                    {"title": detail, "detail": detail, "type": "about:blank", "status": int(fault.kind)},
                    {},
                )
            case "html" | "html 403":
                page = b"<!doctype html><title>Over capacity</title><h1>Something is technically wrong</h1>"
                self._answer(403 if "403" in fault.kind else 503, page, {}, "text/html")
            case "429":
                self._answer(429, TOO_MANY, {**spent, "x-rate-limit-reset": str(now + 300)})
            case "429 missing":
                self._answer(429, TOO_MANY, {})
            case "429 past":
                self._answer(429, TOO_MANY, {**spent, "x-rate-limit-reset": str(now - 600)})
            case "429 day":
                fine = {
                    "x-rate-limit-limit": "100",
                    "x-rate-limit-remaining": "40",
                    "x-rate-limit-reset": str(now + 60),
                }
                day = {f"x-user-limit-24hour-{name}": value for name, value in windows.items()}
                self._answer(429, TOO_MANY, {**fine, **day, "x-user-limit-24hour-reset": str(now + 7_200)})
            case "429 code":
                body = {"errors": [{"code": 88, "message": "Rate limit exceeded"}]}
                self._answer(429, body, {**spent, "x-rate-limit-reset": str(now + 300)})
            case "429 cap":
                self._answer(429, USAGE_CAP, {})
            case "402":
                self._answer(402, no_credits("1"), {})
            case "401":
                self._answer(401, unauthorized().body, {})
            case "403 bare":
                self._answer(403, {"errors": [{"detail": REPLY_GATE}]}, {})
            case _:
                self._answer(302, {}, {"Location": "http://127.0.0.1:9/elsewhere"})

    def _spoil(self, fault: Fault, status: int, answer: object) -> None:
        """Fail after the deed."""
        content = json.dumps(answer).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        match fault.kind:
            case "lose":
                self._hang_up()
            case "cut":
                self._head(status, headers)
                self.wfile.write(content[: len(content) // 2])
                self._hang_up()
            case "cut json":
                self._answer(status, content[: len(content) // 2], {})
            case "list":
                self._answer(status, [answer], {})
            case "no id":
                self._answer(status, {"data": {}}, {})
            case "short page":
                rows = answer.get("data", []) if isinstance(answer, dict) else []
                self._answer(status, {**(answer if isinstance(answer, dict) else {}), "data": rows[:-1]}, {})
            case "503 made":
                self._answer(503, {"title": "Service Unavailable", "type": "about:blank", "status": 503}, {})
            case _:
                self._head(status, headers)
                for place in range(len(content)):
                    self.wfile.write(content[place : place + 1])
                    if not self.x.hold(fault.seconds):
                        break
                self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


def _route(x: StrictX, request: Request) -> tuple[int, Any, dict[str, str]]:
    """Let the state answer one request. Return status, body and headers."""
    first = f"{request.verb} {request.path}"
    if first == "POST /2/oauth2/token":
        return 200, x.tokens(request), {}
    caller = x.caller(request)
    who = caller.account.id if caller.account else "app"
    if first == "POST /2/tweets":
        headers = x.count_request("POST /2/tweets", who)
        return (*x.create(request, caller), headers)
    for pattern, family, answer in ROUTES:
        match = re.fullmatch(pattern, first)
        if match:
            headers = x.count_request(family, who)
            return 200, answer(x, request, caller, *match.groups()), headers
    raise Problem(404, {"title": "Not Found", "type": "about:blank", "status": 404, "detail": "Not Found"})


def _me(x: StrictX, request: Request, caller: Caller) -> dict[str, Any]:
    shape = Shape.of(request, x, set())
    me = x.user(caller, "users.read", "tweet.read")
    x.bill("owned read" if me is next(iter(x.accounts.values())) else "author read", f"user {me.id}")
    return {"data": shape.user(me)}


def _person(x: StrictX, request: Request, caller: Caller, key: str) -> dict[str, Any]:
    shape = Shape.of(request, x, set())
    account = next((one for one in x.accounts.values() if key in (one.id, one.username)), None)
    if account is None or account.suspended:
        return {"errors": [not_found(key, "user")]}
    x.bill("author read", f"user {account.id}")
    return {"data": shape.user(account)}


ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    (r"GET /2/users/me", "me", _me),
    (r"GET /2/users/by/username/(\w+)", "other", _person),
    (r"GET /2/users/(\d+)", "other", _person),
    (r"GET /2/users/(\d+)/tweets", "timeline", lambda x, request, caller, id_: x.timeline(id_, request, caller)),
    (r"GET /2/tweets/search/recent", "search", lambda x, request, caller: x.search(request, caller)),
    (r"GET /2/tweets/counts/recent", "counts", lambda x, request, caller: x.counts(request, caller)),
    (r"GET /2/tweets", "lookup",
     lambda x, request, caller: x.look_up(request.one("ids", "").split(","), request, caller)),
    (r"GET /2/tweets/(\d+)", "lookup", lambda x, request, caller, id_: x.look_up([id_], request, caller, one=True)),
    (r"GET /2/tweets/(\d+)/retweeted_by", "other",
     lambda x, request, caller, id_: x.reposts(id_, request, caller, people=True)),
    (r"GET /2/tweets/(\d+)/retweets", "other",
     lambda x, request, caller, id_: x.reposts(id_, request, caller, people=False)),
    (r"GET /2/tweets/(\d+)/quote_tweets", "other", lambda x, request, caller, id_: x.quotes(id_, request, caller)),
    (r"DELETE /2/tweets/(\d+)", "DELETE /2/tweets", lambda x, _request, caller, id_: x.delete(id_, caller)),
    (r"POST /2/media/upload/initialize", "upload", lambda x, request, caller: x.initialize(request, caller)),
    (r"POST /2/media/upload/(\d+)/append", "upload", lambda x, request, caller, id_: x.append(id_, request, caller)),
    (r"POST /2/media/upload/(\d+)/finalize", "upload", lambda x, _request, caller, id_: x.finalize(id_, caller)),
    (r"GET /2/media/upload", "upload", lambda x, request, caller: x.status(request, caller)),
    (r"POST /2/media/metadata", "upload", lambda x, request, caller: x.describe(request, caller)),
]  # fmt: skip


def _obey(x: StrictX, word: str, body: bytes) -> dict[str, Any]:
    """Do what a test in another process asks for."""
    wish = json.loads(body or b"{}")
    match word:
        case "say":
            return {"id": x.say(wish.pop("by"), wish.pop("text"), **wish).id}
        case "fail":
            x.fail(wish.pop("route"), wish.pop("kind"), **wish)
        case "move":
            x.clock.move(timedelta(seconds=wish["seconds"]))
        case "balance":
            x.balance = wish["dollars"]
        case _:
            posts = {name: [[p.id, p.typed, p.id_of("replied_to")] for p in x.standing(name)] for name in x.accounts}
            return {"posts": posts, "billed": [[b.what, b.resource, b.price] for b in x.billed], "requests": x.requests}
    return {}


def main() -> None:
    """Run the server as a process: print one line of JSON with its address and its secrets, and serve until ended."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("accounts", nargs="*", default=["desk", "other"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--names", choices=("tweet", "post"), default="tweet")
    wish = parser.parse_args()
    with StrictX(*wish.accounts, names=wish.names, port=wish.port) as x:
        told = {"ready": True, "url": x.url, "bearer": x.bearer_token, "client_id": x.client_id}
        told |= {"secrets": {name: x.user_secrets(name) for name in x.accounts}}
        print(json.dumps(told), flush=True)  # noqa: T201 - it is how a process is asked
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
