"""XRPC: one request to one server, over when its time is over.

Why plain requests and not the client of the package `atproto`: that client follows redirects whatever one asks, knows
no deadline for a whole call, drops the `null` of `swapRecord`, and renews a session and repeats the call by itself.
Here one request is one connection with one deadline. The package stays the independent witness in the tests.
"""

from __future__ import annotations

import functools
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpcore
import msgspec

from shareasm.errors import ConfigError, LoginNeeded, NoCredits, RateLimited, Refused, Unreachable
from shareasm.model import Clock
from shareasm.networks.bluesky import NETWORK

CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
ANSWER_BYTES = 5_000_000

TOKEN_OVER = frozenset({"ExpiredToken", "InvalidToken"})
ACCOUNT_GONE = frozenset({"AccountTakedown", "AccountDeactivated", "RepoTakendown", "RepoDeactivated", "RepoSuspended"})


class AnswerLost(Unreachable):
    """The request may have arrived; its answer did not."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, whatever it was."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The answer's object, empty when it is none."""
        try:
            value = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def is_fine(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def error(self) -> str:
        """The name of the error, as lexicons name it."""
        return "" if self.is_fine else self.text("error")

    @property
    def words(self) -> str:
        """The server's own words, one line of them, with the status."""
        told = self.text("message") or self.error or "no reason given"
        return f"{' '.join(told.split())[:300]} ({self.status})"

    @property
    def refuses_token(self) -> bool:
        """Whether the token is over, and nothing else is wrong: then nothing was done."""
        if self.error in ACCOUNT_GONE:
            return False
        return self.status == 401 or (self.status == 400 and self.error in TOKEN_OVER)

    def text(self, name: str) -> str:
        """Return that part of the answer, or nothing."""
        return text_of(self.json.get(name))

    def wait_until(self, clock: Clock) -> datetime | None:
        """Return when the server wants to be asked again."""
        reset, wait = self.headers.get("ratelimit-reset", ""), self.headers.get("retry-after", "")
        if wait.isascii() and wait.isdigit():  # counted from now, so no clock of theirs is trusted
            return clock.now() + timedelta(seconds=min(int(wait), 86_400))
        if reset.isascii() and reset.isdigit() and len(reset) < 12:
            return datetime.fromtimestamp(int(reset), UTC)
        return None


class Server:
    """One server, spoken to in single requests: no redirect, no proxy, no retry, no cookie, and a deadline."""

    def __init__(self, base: str, account: str, clock: Clock) -> None:
        self.base, self.account, self.clock = base, account, clock
        self.host = urlsplit(base).netloc

    def call(
        self,
        end: float,
        verb: str,
        method: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        mime: str = "application/json",
        token: str = "",
    ) -> Answer:
        """Make one request that is over at `end`.

        Raise Unreachable where nothing was sent, and AnswerLost where the server may have acted.
        """
        address = f"{self.base}/xrpc/{method}" + (f"?{urlencode(params)}" if params else "")
        headers: dict[bytes | str, bytes | str] = {"User-Agent": "shareasm", "Accept": "application/json"}
        headers |= {"Content-Type": mime} if body else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        seconds = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS, "pool": CONNECT_SECONDS}
        try:
            # A connection of its own: one that lay idle may be dead, and a post lost on it would be “unknown”.
            with (
                httpcore.ConnectionPool(ssl_context=tls(), network_backend=_Deadline(end)) as pool,
                pool.stream(
                    verb, address, headers=headers, content=body or None, extensions={"timeout": seconds}
                ) as answer,
            ):
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Answer(answer.status, names, _read(answer))
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
            happened = f"Bluesky's server {self.host} cannot be reached ({words_of(fault)})."
            what_to_do = "Check its address and the network; the desk tries again."
            raise Unreachable(happened, what_to_do, network=NETWORK, account=self.account) from fault
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError) as fault:
            happened = f"Bluesky's server {self.host} took the request and did not answer ({words_of(fault)})."
            raise AnswerLost(happened, network=NETWORK, account=self.account) from fault

    def hold(self, answer: Answer) -> None:
        """Raise the error that the answer is, if it is one."""
        if answer.is_fine:
            return
        about: dict[str, str] = {"network": NETWORK, "account": self.account}
        words = f"Bluesky's server {self.host} says: {answer.words}."
        if answer.status == 429:
            raise RateLimited(answer.wait_until(self.clock), words, **about)
        if answer.status == 401 or answer.error in ACCOUNT_GONE:
            raise LoginNeeded(words, "Look at the account on Bluesky.", **about)
        if answer.status == 402:
            raise NoCredits(words, **about)
        raise (Refused if 400 <= answer.status < 500 else Unreachable)(words, **about)

    def unreadable(self, answer: Answer) -> Unreachable:
        """Return the error for an answer that lacks what it must hold."""
        words = f"Bluesky's server {self.host} gave an answer that cannot be read ({answer.status})."
        return Unreachable(words, "Is the address that of a Bluesky server?", network=NETWORK, account=self.account)


def _read(answer: httpcore.Response) -> bytes:
    body = bytearray()
    for part in answer.iter_stream():
        body += part
        if len(body) > ANSWER_BYTES:
            raise httpcore.RemoteProtocolError("the answer is too long")
    return bytes(body)


def words_of(fault: Exception) -> str:
    """Return what went wrong on the line, in the system's words."""
    return re.sub(r"^\[errno -?\d+\] ", "", str(fault).lower()) or type(fault).__name__


@functools.cache
def tls() -> Any:
    """Return the one TLS context: reading the certificates takes longer than a post."""
    return httpcore.default_ssl_context()


class _Deadline(httpcore.NetworkBackend):
    """Sockets on which no step outlasts one moment: a read time-out alone never ends against one byte a second."""

    def __init__(self, end: float) -> None:
        self._end = end

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        end = min(self._end, time.monotonic() + (timeout or CONNECT_SECONDS))
        addresses = _addresses(host, port, _left(end, httpcore.ConnectTimeout))
        for place, address in enumerate(addresses, 1):
            share = _left(end, httpcore.ConnectTimeout) / (len(addresses) - place + 1)
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if place == len(addresses):
                    raise
            else:
                return _DeadlineStream(stream, self._end)
        raise httpcore.ConnectError("the name has no address")


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, end: float) -> None:
        self._stream, self._end = stream, end

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._end, httpcore.ReadTimeout, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), 16_384):  # in pieces, so that a slow reader meets the deadline too
            self._stream.write(buffer[start : start + 16_384], _left(self._end, httpcore.WriteTimeout, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._end, httpcore.ConnectTimeout, timeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left), self._end)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(end: float, over: type[httpcore.TimeoutException], timeout: float | None = None) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise over("the time is over")
    return left if timeout is None else min(left, timeout)


def _addresses(host: str, port: int, seconds: float) -> list[str]:
    """Resolve the name, and wait no longer than that: the system's resolver knows no time-out of ours."""
    found: SimpleQueue[list[Any] | OSError | UnicodeError] = SimpleQueue()

    def resolve() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as fault:
            found.put(fault)

    threading.Thread(target=resolve, daemon=True).start()
    try:
        answer = found.get(timeout=seconds)
    except Empty:
        raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from None
    if isinstance(answer, OSError | UnicodeError):
        raise httpcore.ConnectError(str(answer)) from answer
    return list(dict.fromkeys(str(entry[4][0]) for entry in answer))


def web_address(server: str, where: str) -> str:
    """Return `https://host` from any of its spellings. Raise ConfigError for what is no address."""
    parts = urlsplit(server if "://" in server else f"https://{server}")
    scheme = {"wss": "https", "ws": "http"}.get(parts.scheme, parts.scheme)
    if scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError(f"“{server}” is no address of a Bluesky server.", "Write https://bsky.social.", where=where)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/xrpc')}"


def text_of(value: Any) -> str:
    """Return the value if it is text, without the sign that no database takes, else nothing."""
    return value.replace("\0", "") if isinstance(value, str) else ""
