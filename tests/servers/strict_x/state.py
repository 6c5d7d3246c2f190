"""The state of X: whoever asks changes it here and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from tests.servers.strict_x.door import FAULTS, Server, handler
from tests.servers.strict_x.request import BOUNDS, Bounds, Request, Shape, query_of, whole
from tests.servers.strict_x.search import Search
from tests.servers.strict_x.things import Account, Bill, Caller, Fault, Grant, MovingClock, Post, Upload
from tests.servers.strict_x.words import (
    BODY,
    DUPLICATE,
    EPOCH_MS,
    LIMITS,
    MAGIC,
    POST_NAMES,
    PRICES,
    PROBLEMS,
    QUOTE_GATE,
    REPLY_GATE,
    SEARCH_EDGE,
    TAG,
    TOO_MANY,
    WEEK,
    Problem,
    escaped,
    forbidden,
    invalid,
    no_credits,
    not_found,
    quoted_sign,
    stamp,
    unauthorized,
    unquoted_sign,
    urls_of,
    weight,
)


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
        self._server = Server(("127.0.0.1", port), handler(self))
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
        """Let the next requests whose “VERB /path” begins so fail in this way: see `door.FAULTS`."""
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
        given = {name: unquoted_sign(value) for name, value in found.items()}
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
        joined = "&".join(sorted(f"{quoted_sign(name)}={quoted_sign(value)}" for name, value in pairs))
        base = "&".join(quoted_sign(part) for part in (request.verb, host + request.path, joined))
        key = f"{quoted_sign(self.api_secret)}&{quoted_sign(account.access_secret)}"
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
        limit = whole(request, "max_results", 10, 5, 100)
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
        limit = whole(request, "max_results", 10, 10, 100)
        words = query_of(request)
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
        words = query_of(request)
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
        limit = whole(request, "max_results", 100, 1, 100)
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
        limit = whole(request, "max_results", 10, 10, 100)
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
            text += escaped(typed[rest:start])
            shown = full.split("://", 1)[1]
            entities.setdefault("urls", []).append(
                {"start": len(text), "end": len(text) + len(short), "url": short, "expanded_url": full,
                 "display_url": shown if len(shown) <= 26 else shown[:26] + "…"}
            )  # fmt: skip
            text, rest = text + short, end
        text += escaped(typed[rest:])
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
