"""The door: HTTP, the addresses, and the faults that a test wishes for."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.servers.strict_x.request import Request, Shape
from tests.servers.strict_x.things import Caller, Fault
from tests.servers.strict_x.words import (
    REPLY_GATE,
    TOO_MANY,
    USAGE_CAP,
    Problem,
    no_credits,
    not_found,
    unauthorized,
)

if TYPE_CHECKING:
    from tests.servers.strict_x.state import StrictX


FAULTS = frozenset(
    {
        "lose", "cut", "cut json", "list", "no id", "drip", "silence", "500", "503", "503 made", "html", "html 403",
        "429", "429 missing", "429 past", "429 day", "429 code", "429 cap", "402", "401", "403 bare", "redirect",
        "close", "short page",
    }
)  # fmt: skip
MADE = frozenset({"lose", "cut", "cut json", "list", "no id", "drip", "503 made", "short page"})
"""Faults that come after the deed."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went is no news


def handler(x: StrictX) -> type[_Handler]:
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
