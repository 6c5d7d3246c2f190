"""Line: one request to one server, over when its time is over.

Why neither Mastodon.py nor requests carry it: Mastodon.py waits 300 s by default, recurses where a version cannot be
read (978 requests, measured), and raises on an unreadable rate-limit header although the post was made; requests ends
a read after a pause, never after a total, so that a server which drips a byte a second holds it for hours.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpcore
import msgspec

from shareasm import __version__
from shareasm.deadline import TIMEOUTS, Deadline, tls, words_of
from shareasm.errors import ConfigError, LoginNeeded, NoCredits, RateLimited, Refused, Unreachable
from shareasm.model import Clock
from shareasm.networks import Setting
from shareasm.networks.mastodon import NETWORK

ANSWER_BYTES = 10_000_000
LONGEST_LIMIT = timedelta(hours=24)

ID = re.compile(r"(?!\.{1,2}$)[\w.~-]{1,128}", re.ASCII)
"""Ids are text: 18 digits, ULIDs, UUIDs, 42 signs. What could change an address is none."""


class AnswerLost(Unreachable):
    """The request may have arrived; its answer did not."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it goes over the line."""

    verb: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, whatever it was."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The answer's value, None when it cannot be read."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _mended(self.body)

    @property
    def object(self) -> Mapping[str, Any]:
        """The answer's object, empty when it is none."""
        return dict_of(self.json)

    @property
    def is_fine(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """The server's own words, one line of them, with the status."""
        told = text_of(self.object.get("error")) or "no reason given"
        if 300 <= self.status < 400:
            told = f"it sends us to {urlsplit(self.headers.get('location', '')).netloc or 'another place'}"
        return f"{' '.join(told.split())[:300]} ({self.status})"

    def wait_until(self, clock: Clock) -> datetime | None:
        """Return when the server wants to be asked again; None where it does not say it in words we can read.

        Their reset is compared with their own `Date`, so that a clock which is wrong there moves nothing here.
        """
        wait = _seconds(self.headers.get("retry-after", ""))
        reset = _moment(self.headers.get("x-ratelimit-reset", ""))
        if wait is None and reset is not None:
            wait = (reset - (self.told_at() or clock.now())).total_seconds()
        if wait is None or not 0 < wait <= LONGEST_LIMIT.total_seconds():
            return None
        return clock.now() + timedelta(seconds=max(1.0, wait))

    def told_at(self) -> datetime | None:
        """Return the server's own time of the answer."""
        try:
            told = parsedate_to_datetime(self.headers.get("date", ""))
        except (ValueError, OverflowError):
            return None
        return told.astimezone(UTC) if told.tzinfo else None


class Line:
    """The way to one server: no redirect, no proxy, no retry, no cookie, and a deadline for the whole request."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self.account, self.clock = setting, setting.name, setting.clock
        self.base = web_address(setting.server, setting.name)
        self.host = urlsplit(self.base).netloc
        contact = text_of((setting.options or {}).get("contact"))
        self.agent = f"shareasm/{__version__}" + (f" (+{contact})" if re.fullmatch(r"[!-~]+", contact) else "")

    def token(self) -> str:
        """Return our access token. Raise ConfigError when there is none, LoginNeeded when it cannot be one."""
        token = self._setting.secret("ACCESS_TOKEN").strip()
        if re.fullmatch(r"[!-~]+", token):
            return token
        happened = f"The access token of “{self.account}” is not one."
        raise LoginNeeded(happened, self.where_the_token_belongs(), network=NETWORK, account=self.account)

    def get(self, end: float, path: str, params: Mapping[str, Any] | None = None, *, token: str = "") -> Answer:
        """Read. Raise Unreachable."""
        query = f"?{urlencode(params, doseq=True)}" if params else ""
        return self.call(end, Request("GET", path + query, {"Authorization": f"Bearer {token}"} if token else {}))

    def call(self, end: float, request: Request) -> Answer:
        """Make one request that is over at `end`.

        Raise Unreachable where nothing was sent, and AnswerLost where the server may have acted.
        """
        headers: dict[bytes | str, bytes | str] = {"User-Agent": self.agent, "Accept": "application/json"}
        headers |= {"Accept-Encoding": "identity", **request.headers}
        body = request.body or (b"" if request.verb == "POST" else None)
        try:
            # A connection of its own: one that lay idle may be dead, and a post lost on it would be “unknown”.
            with (
                httpcore.ConnectionPool(ssl_context=tls(), network_backend=Deadline(end)) as pool,
                pool.stream(
                    request.verb,
                    self.base + request.path,
                    headers=headers,
                    content=body,
                    extensions={"timeout": TIMEOUTS},
                ) as answer,
            ):
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Answer(answer.status, names, _read(answer))
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
            happened = f"The server {self.host} cannot be reached ({words_of(fault)})."
            what_to_do = "Check its address and the network; the desk tries again."
            raise Unreachable(happened, what_to_do, network=NETWORK, account=self.account) from fault
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as fault:
            happened = f"The server {self.host} took the request and did not answer ({words_of(fault)})."
            raise AnswerLost(happened, network=NETWORK, account=self.account) from fault

    def hold(self, answer: Answer) -> None:
        """Raise the error that the answer is, if it is one."""
        if answer.is_fine:
            return
        about: dict[str, str] = {"network": NETWORK, "account": self.account}
        words = f"{self.host} says: {answer.words}."
        match answer.status:
            case 429:
                raise RateLimited(answer.wait_until(self.clock), words, **about)
            case 401:
                raise self.login_needed(answer)
            case 402:
                raise NoCredits(words, **about)
            case status:
                raise (Refused if 400 <= status < 500 and status != 408 else Unreachable)(words, **about)

    def login_needed(self, answer: Answer) -> LoginNeeded:
        """Return the error for a token that the server does not take."""
        words = f"{self.host} does not accept the access token of “{self.account}”: {answer.words}."
        return LoginNeeded(words, self.where_the_token_belongs(), network=NETWORK, account=self.account)

    def where_the_token_belongs(self) -> str:
        """Return what to do where a token is missing or wrong."""
        variable = "SHAREASM_" + re.sub(r"\W", "_", self.account).upper() + "_ACCESS_TOKEN"
        return f"Make one there (Preferences, Development) and put it into {variable}."

    def unreadable(self, answer: Answer) -> Unreachable:
        """Return the error for an answer that lacks what it must hold."""
        words = f"{self.host} gave an answer that cannot be read ({answer.status})."
        return Unreachable(words, "Is the address that of a Mastodon server?", network=NETWORK, account=self.account)


def _read(answer: httpcore.Response) -> bytes:
    body = bytearray()
    for part in answer.iter_stream():
        body += part
        if len(body) > ANSWER_BYTES:
            raise httpcore.RemoteProtocolError("the answer is too long")
    return bytes(body)


def _mended(body: bytes) -> Any:
    """Return a value in which signs that are none are replaced: one such post must not hide forty others."""
    try:
        value = json.loads(body.decode(errors="replace"))
        return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _seconds(told: str) -> float | None:
    try:
        seconds = float(told)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


def _moment(told: str) -> datetime | None:
    """Return the moment of a reset: ISO 8601 from Mastodon and GoToSocial, seconds since 1970 from others."""
    seconds = _seconds(told)
    try:
        return time_of(told) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def web_address(server: str, where: str) -> str:
    """Return `https://host` from any of its spellings. Raise ConfigError for what is no address."""
    parts = urlsplit(server if "://" in server else f"https://{server}")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        what_to_do = "Write it as https://mastodon.social."
        raise ConfigError(f"“{server}” is no address of a Mastodon server.", what_to_do, where=where)
    return f"{parts.scheme}://{parts.netloc}"


def time_of(value: Any) -> datetime:
    """Return the moment that ISO 8601 tells, in UTC. Raise ValueError for another text."""
    told = datetime.fromisoformat(text_of(value))
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)


def text_of(value: Any) -> str:
    """Return the value if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def id_of(value: Any) -> str:
    """Return the id if it is one, else nothing."""
    value = str(value) if isinstance(value, int) else text_of(value)
    return value if ID.fullmatch(value) else ""


def dict_of(value: Any) -> Mapping[str, Any]:
    """Return the value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []
