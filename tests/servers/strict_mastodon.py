"""Strict Mastodon: a server of our own for what mastodon-mock gets wrong or forgives, each line of facts/mastodon.md.

It counts what really happened (`posts`, `requests`), its clock moves (`ahead`), its ids come in three kinds, and its
habits are plain attributes that a test sets: keys kept or not, 500 on a repeated key, headers in four spellings, HTML
as five kinds of server write it, posts that arrive late below what was read, the same post on two servers.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

Ids = Literal["numbers", "ulid", "long"]
Html = Literal["mastodon", "gotosocial", "takahe", "snac", "hollo"]
Reset = Literal["iso", "numeric", "missing", "unreadable"]
Fault = Literal["drop", "drop before", "500", "html", "cut", "drip", "silence", "elsewhere", "limit", "nonsense"]

TOKENS = {"token-of-desk": "desk", "token-of-other": "other"}
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TAG = re.compile(r"#(\w+)")
WINDOW = timedelta(minutes=15)


@dataclass
class Post:
    """One post as a server holds it. Its id belongs to this server, its `uri` to all."""

    id: str
    order: tuple[int, int]
    uri: str
    acct: str
    text: str
    created_at: datetime
    visibility: str = "public"
    language: str | None = None
    warning: str = ""
    parent: str | None = None
    media: list[dict[str, Any]] = field(default_factory=list)
    counts: tuple[int, int, int] = (0, 0, 0)
    edited_at: datetime | None = None
    with_ms: bool = True
    account: dict[str, Any] = field(default_factory=dict)
    quote: Post | None = None


@dataclass
class StrictMastodon:
    """One server on loopback. `posts` is the truth."""

    domain: str = "strict.test"
    ids: Ids = "numbers"
    html: Html = "mastodon"
    reset: Reset = "iso"
    source_url: str = "https://github.com/mastodon/mastodon"
    version: str = "4.5.1"
    keeps_keys: bool = True
    key_life: timedelta = timedelta(hours=1)
    repeated_key_is_500: bool = False
    joins_tags: bool = True
    anonymous: int = 200
    pages_by_id: bool = True
    default_visibility: str = "unlisted"
    max_characters: int = 500
    too_long: int = 422
    deletes: bool = True
    tells_instance: bool = True
    tells_actor: bool = True
    media_rounds: int = 0
    paged_limit: int = 300
    ahead: timedelta = timedelta(0)
    posts: list[Post] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    faults: list[tuple[Fault, str]] = field(default_factory=list)
    replies: list[tuple[str, int, bytes, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._keys: dict[tuple[str, str], tuple[datetime, str]] = {}
        self._media: dict[str, dict[str, Any]] = {}
        self._paged: list[datetime] = []
        self._count = 0
        self._over = threading.Event()
        handler = type("Bound", (_Handler,), {"strict": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that hung up is no news here
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._http.shutdown()
        self._http.server_close()

    def now(self) -> datetime:
        """This server's own time."""
        return datetime.now(UTC) + self.ahead

    # ── What a test does ─────────────────────────────────────────────────────────────────────────────────────────────

    def fault(self, fault: Fault, containing: str = "POST /api/v1/statuses", times: int = 1) -> None:
        """Let the next requests whose first line contains the text go wrong in this way."""
        with self._lock:
            self.faults += [(fault, containing)] * times

    def reply(self, status: int, error: object, containing: str = "POST /api/v1/statuses", **headers: str) -> None:
        """Answer the next such request in these words, and do nothing."""
        content = error.encode() if isinstance(error, str) else json.dumps(error).encode()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies.append((containing, status, content, told))

    def say(self, text: str, acct: str = "other", **told: Any) -> Post:
        """Post as somebody. `made` is when it was written; the id is made from that, as for posts that came late."""
        made = told.pop("made", None) or self.now()
        with self._lock:
            local, order = self._new_id(made)
            uri = (
                told.pop("uri", "") or f"https://{self._host_of(acct)}/users/{acct.partition('@')[0]}/statuses/{local}"
            )
            post = Post(local, order, uri, acct, text, made, **told)
            self.posts.append(post)
            return post

    def receive(self, post: Post, home: str, **told: Any) -> Post:
        """Let a post of another server arrive: the same `uri`, an id of ours, counts and a time as we show them."""
        acct = post.acct if "@" in post.acct else f"{post.acct}@{home}"
        told = {"counts": (0, 0, 0), "with_ms": False, "language": post.language, **told}
        return self.say(post.text, acct, made=post.created_at, uri=post.uri, **told)

    def remove(self, post: Post) -> None:
        """Delete a post without a word."""
        with self._lock:
            self.posts.remove(post)

    def forget_requests(self) -> None:
        """Begin to count anew."""
        self.requests.clear()

    def by(self, acct: str = "desk") -> list[Post]:
        """All that this account has posted, oldest first."""
        return [post for post in self.posts if post.acct == acct]

    # ── Ids and shapes ───────────────────────────────────────────────────────────────────────────────────────────────

    def _new_id(self, made: datetime) -> tuple[str, tuple[int, int]]:
        self._count += 1
        ms = int(made.timestamp() * 1000)
        order = (ms, self._count)
        if self.ids == "numbers":
            return str((ms << 16) | (self._count & 0xFFFF)), order
        if self.ids == "ulid":
            value = (ms << 80) | self._count
            return "".join(CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5)), order
        return f"{ms:013d}_{self._count:06d}" + hashlib.sha256(str(order).encode()).hexdigest()[:22], order

    def _host_of(self, acct: str) -> str:
        return acct.partition("@")[2] or self.domain

    def account_json(self, acct: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
        name, host = acct.partition("@")[0], self._host_of(acct)
        account = {
            "id": str(100 + sum(acct.encode())),
            "username": name,
            "acct": acct,
            "display_name": name.title(),
            "bot": False,
            "indexable": True,
            "note": "",
            "created_at": "2022-11-06T00:00:00.000Z",
            "url": f"https://{host}/@{name}",
            "followers_count": 12,
            "following_count": 3,
            "statuses_count": len(self.by(acct)),
        }
        if self.tells_actor:
            account["uri"] = f"https://{host}/users/{name}"
        return {**account, **(changes or {})}

    def status_json(self, post: Post) -> dict[str, Any]:
        likes, boosts, replies = post.counts
        shown = post.created_at.astimezone(UTC).isoformat(timespec="milliseconds" if post.with_ms else "seconds")
        status = {
            "id": post.id,
            "uri": post.uri,
            "url": post.uri.replace("/users/", "/@").replace("/statuses", ""),
            "created_at": shown.replace("+00:00", "Z"),
            "edited_at": post.edited_at.isoformat().replace("+00:00", "Z") if post.edited_at else None,
            "visibility": post.visibility,
            "language": post.language,
            "spoiler_text": post.warning,
            "in_reply_to_id": post.parent,
            "in_reply_to_account_id": "1" if post.parent else None,
            "reblog": None,
            "content": self.markup(post.text),
            "account": self.account_json(post.acct, post.account),
            "tags": [{"name": tag.lower(), "url": f"{self.url}/tags/{tag}"} for tag in TAG.findall(post.text)],
            "mentions": [],
            "media_attachments": post.media,
            "card": None,
            "favourites_count": likes,
            "reblogs_count": boosts,
            "replies_count": replies,
        }
        if post.quote is not None:
            status["quote"] = {"state": "accepted", "quoted_status": self.status_json(post.quote)}
        return status

    def markup(self, text: str) -> str:
        """The text as HTML, as this kind of server writes it."""
        out = re.sub(r"https?://\S+|#\w+|@\w+(?:@[\w.]+)?|\n{2,}|\n|[&<>]|  ", self._mark, text)
        return out if self.html == "snac" else f"<p>{out}</p>"

    def _mark(self, found: re.Match[str]) -> str:
        said = found[0]
        br = "<br />" if self.html == "mastodon" else "<br>"
        if said.startswith("http"):
            return self._link(said)
        if said.startswith("#"):
            inner = said[1:] if self.html == "takahe" else f"<span>{said[1:]}</span>"
            return f'<a href="{self.url}/tags/{said[1:]}" class="mention hashtag" rel="tag">#{inner}</a>'
        if said.startswith("@"):
            name, _, host = said[1:].partition("@")
            shown = said[1:] if self.html == "hollo" else name
            address = f"https://{host or self.domain}/@{name}"
            return f'<span class="h-card"><a href="{address}" class="u-url mention">@<span>{shown}</span></a></span>'
        if said.startswith("\n"):
            return br if len(said) == 1 else (br * 2 if self.html == "snac" else "</p><p>")
        return "&nbsp; " if said == "  " else escape(said)

    def _link(self, address: str) -> str:
        href, bare = escape(address), address.partition("://")[2]
        if self.html == "takahe" and len(bare) > 20:
            return f'<a href="{href}" rel="nofollow">{escape(bare[:20])}…</a>'
        if self.html == "mastodon":
            scheme, rest = address.partition("://")[0] + "://", escape(bare[30:])
            inner = f'<span class="invisible">{scheme}</span><span class="ellipsis">{escape(bare[:30])}</span>'
            return f'<a href="{href}" target="_blank" rel="nofollow">{inner}<span class="invisible">{rest}</span></a>'
        return f'<a href="{href}">{href}{"/" if "/" not in bare else ""}</a>'

    # ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def answer(self, verb: str, path: str, query: dict[str, list[str]], form: dict[str, Any], who: str, key: str):
        """Return status and value of one request."""
        with self._lock:
            parts = path.removeprefix("/api/").split("/")
            match (verb, parts):
                case ("GET", ["v2", "instance"]) if self.tells_instance:
                    return 200, self._instance()
                case ("GET", ["v1", "timelines", "tag", tag]):
                    return self._timeline(tag, query, who)
                case ("GET", ["v1", "statuses", local, *rest]):
                    return self._status(local, rest, who)
            if not who:
                return 401, {"error": "The access token is invalid"}
            match (verb, parts):
                case ("GET", ["v1", "accounts", "verify_credentials"]):
                    return 200, self.account_json(who)
                case ("GET", ["v1", "accounts", _, "statuses"]):
                    return self._page([post for post in self.posts if post.acct == who], query)
                case ("POST", ["v1", "statuses"]):
                    return self._post(form, who, key)
                case ("DELETE", ["v1", "statuses", local]) if self.deletes:
                    return self._delete(local, who)
                case ("POST", ["v2", "media"]):
                    return self._upload(form)
                case ("GET", ["v1", "media", local]) if local in self._media:
                    return self._work_on(self._media[local])
            return 404, {"error": "Not Found"}

    def _instance(self) -> dict[str, Any]:
        statuses = {"max_characters": self.max_characters, "max_media_attachments": 6}
        return {
            "domain": self.domain,
            "title": "A server",
            "version": self.version,
            "source_url": self.source_url,
            "configuration": {
                "statuses": {**statuses, "characters_reserved_per_url": 23},
                "media_attachments": {"image_size_limit": 1_000_000, "description_limit": 1400},
            },
        }

    def _timeline(self, tag: str, query: dict[str, list[str]], who: str):
        if not who and self.anonymous != 200:
            return self.anonymous, {"error": "This method requires an authenticated user"}
        wanted = [tag, *(query.get("any[]", []) if self.joins_tags else [])][:4]
        folded = {one.casefold() for one in wanted}
        found = [
            post
            for post in self.posts
            if post.visibility == "public" and folded & {one.casefold() for one in TAG.findall(post.text)}
        ]
        return self._page(found, query)

    def _page(self, found: list[Post], query: dict[str, list[str]]):
        """Newest first; `min_id` gives the page just above, `since_id` the newest one above. Some rows are hidden."""
        asked = {name: query[name][0] for name in ("max_id", "min_id", "since_id") if name in query}
        if asked:
            now = self.now()
            self._paged = [at for at in self._paged if at > now - WINDOW]
            if len(self._paged) >= self.paged_limit:
                return 429, {"error": "Throttled"}
            self._paged.append(now)
        limit = min(40, int(query.get("limit", ["20"])[0]))
        posts = sorted(found, key=lambda post: post.order)
        if self.pages_by_id:
            if "max_id" in asked:
                posts = [post for post in posts if self._order(post.id) < self._order(asked["max_id"])]
            if low := asked.get("min_id") or asked.get("since_id"):
                posts = [post for post in posts if self._order(post.id) > self._order(low)]
        page = posts[:limit] if "min_id" in asked and self.pages_by_id else posts[-limit:]
        return 200, [self.status_json(post) for post in reversed(page) if post.id not in self.hidden]

    def _order(self, local: str) -> tuple[int, str]:
        return (len(local), local)

    def _status(self, local: str, rest: list[str], who: str):
        post = next((one for one in self.posts if one.id == local), None)
        if post is None or (post.visibility in ("private", "direct") and not who):
            return 404, {"error": "Record not found"}
        if rest == ["context"]:
            return 200, {"ancestors": [self.status_json(one) for one in self._above(post)], "descendants": []}
        return 200, self.status_json(post)

    def _above(self, post: Post) -> list[Post]:
        above: list[Post] = []
        while post.parent and (up := next((one for one in self.posts if one.id == post.parent), None)):
            above.insert(0, up)
            post = up
        return above

    def _post(self, form: dict[str, Any], who: str, key: str):
        kept = self._keys.get((who, key))
        if key and kept and self.keeps_keys and self.now() < kept[0] + self.key_life:
            if self.repeated_key_is_500:
                return 500, {"error": "Remote data could not be fetched"}
            post = next((one for one in self.posts if one.id == kept[1]), None)
            return (200, self.status_json(post)) if post else (404, {"error": "Record not found"})
        self.forms.append(form)
        text, parent = _one(form, "status"), _one(form, "in_reply_to_id") or None
        if len(text) > self.max_characters:
            return self.too_long, {
                "error": f"Validation failed: Text character limit of {self.max_characters} exceeded"
            }
        if not text and not form.get("media_ids[]"):
            return 422, {"error": "Validation failed: Text can't be blank"}
        if parent and not any(one.id == parent for one in self.posts):
            return 404, {"error": "The post you are trying to reply to does not appear to exist."}
        media = [self._media.get(one, {}) for one in form.get("media_ids[]", [])]
        if any(not one or one["_used"] for one in media):
            return 422, {"error": "Validation failed: Media could not be found or were already attached"}
        if any(one["_left"] for one in media):
            return 422, {"error": "Cannot attach files that have not finished processing. Try again in a moment!"}
        for one in media:
            one["_used"] = True
        post = self.say(
            text,
            who,
            visibility=_one(form, "visibility") or self.default_visibility,
            language=_one(form, "language") or None,
            warning=_one(form, "spoiler_text"),
            parent=parent,
            media=media,
        )
        if key:
            self._keys[who, key] = (self.now(), post.id)
        return 200, self.status_json(post)

    def _delete(self, local: str, who: str):
        post = next((one for one in self.posts if one.id == local and one.acct == who), None)
        if post is None:
            return 404, {"error": "Record not found"}
        self.posts.remove(post)
        return 200, self.status_json(post)

    def _upload(self, form: dict[str, Any]):
        self._count += 1
        media = {
            "id": str(self._count),
            "type": "image",
            "url": f"{self.url}/media/{self._count}.png",
            "description": _one(form, "description") or None,
            "focus": _one(form, "focus"),
            "_used": False,
            "_left": self.media_rounds,
        }
        self._media[media["id"]] = media
        return (202 if self.media_rounds else 200), {**media, "url": None if self.media_rounds else media["url"]}

    def _work_on(self, media: dict[str, Any]):
        media["_left"] = max(0, media["_left"] - 1)
        return (206 if media["_left"] else 200), media

    def headers(self) -> dict[str, str]:
        """The rate-limit headers, in this server's spelling."""
        reset = self.now() + timedelta(minutes=5)
        told = {"X-RateLimit-Limit": "300", "X-RateLimit-Remaining": "299"}
        match self.reset:
            case "iso":
                return {**told, "X-RateLimit-Reset": reset.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
            case "numeric":
                return {**told, "X-RateLimit-Reset": str(int(reset.timestamp()))}
            case "unreadable":
                return {
                    "X-RateLimit-Limit": "many",
                    "X-RateLimit-Remaining": "?",
                    "X-RateLimit-Reset": "soon, promised",
                }
            case "missing":
                return {}

    def fault_for(self, first_line: str) -> Fault | None:
        with self._lock:
            self.requests.append(first_line)
            for place, (fault, containing) in enumerate(self.faults):
                if containing in first_line:
                    del self.faults[place]
                    return fault
        return None

    def rest(self, seconds: float) -> bool:
        """Wait; True when the server is over."""
        return self._over.wait(seconds)


def _one(form: dict[str, Any], name: str) -> str:
    return (form.get(name) or [""])[0]


class _Handler(BaseHTTPRequestHandler):
    strict: StrictMastodon
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return self.strict.now().strftime("%a, %d %b %Y %H:%M:%S GMT")

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or -1)
        body = self.rfile.read(length) if length >= 0 else b""
        if len(body) == length:  # half a request is none
            self._serve(body)
        self.close_connection = True

    do_DELETE = do_GET

    def _serve(self, body: bytes) -> None:
        self.close_connection = True
        fault = self.strict.fault_for(f"{self.command} {self.path}")
        if fault == "drop before":
            return
        for place, (containing, status, content, headers) in enumerate(self.strict.replies):
            if containing in f"{self.command} {self.path}":
                del self.strict.replies[place]
                return self._answer(status, content, headers)
        if fault == "limit":
            return self._answer(429, json.dumps({"error": "Too many requests"}).encode())
        if fault == "elsewhere":
            return self._answer(302, b"", {"Location": "https://elsewhere.test/"})
        address = urlsplit(self.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        who = TOKENS.get(token, "") if token not in self.strict.revoked else ""
        status, value = self.strict.answer(
            self.command,
            address.path,
            parse_qs(address.query),
            _form(self.headers.get("Content-Type") or "", body),
            who,
            self.headers.get("Idempotency-Key") or "",
        )
        content = json.dumps(value).encode()
        match fault:
            case None:
                self._answer(status, content)
            case "500":
                self._answer(500, b'{"error": "Internal error"}')
            case "html":
                self._answer(502, b"<html><h1>Bad gateway</h1></html>", {"Content-Type": "text/html"})
            case "nonsense":
                self._answer(200, b'[{"id": 1, "uri": {}}, 7, null]')
            case "cut":
                self._answer(status, content[: len(content) // 2])
            case "drip":
                self._drip(status, content)
            case "silence":
                self.strict.rest(30)

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            **self.strict.headers(),
            "Content-Length": str(len(content)),
            "Connection": "close",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _drip(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for place in range(len(content)):
            if self.strict.rest(0.05):
                return
            try:
                self.wfile.write(content[place : place + 1])
            except OSError:
                return


def _form(kind: str, body: bytes) -> dict[str, Any]:
    if kind.startswith("multipart/"):
        message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        return {
            str(part.get_param("name", header="content-disposition")): [
                (part.get_payload(decode=True) or b"").decode("utf-8", "replace")  # type: ignore[union-attr]
            ]
            for part in message.get_payload()  # type: ignore[union-attr]
        }
    return dict(parse_qs(body.decode(), keep_blank_values=True))
