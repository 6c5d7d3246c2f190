"""XRPC: one request to one server, over when its time is over.

Why plain requests and not the client of the package `atproto`: that client follows redirects whatever one asks, knows
no deadline for a whole call, drops the `null` of `swapRecord`, and renews a session and repeats the call by itself.
Here one request is one connection with one deadline. The package stays the independent witness in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpcore
import msgspec

from shareasm.deadline import TIMEOUTS, Deadline, tls, words_of
from shareasm.errors import ConfigError, LoginNeeded, NoCredits, RateLimited, Refused, Unreachable
from shareasm.model import Clock
from shareasm.networks.bluesky import NETWORK

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
        try:
            # A connection of its own: one that lay idle may be dead, and a post lost on it would be “unknown”.
            with (
                httpcore.ConnectionPool(ssl_context=tls(), network_backend=Deadline(end)) as pool,
                pool.stream(
                    verb, address, headers=headers, content=body or None, extensions={"timeout": TIMEOUTS}
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
