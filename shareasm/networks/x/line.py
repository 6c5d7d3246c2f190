"""The line: one request to X, signed by tweepy and over when its time is over.

tweepy signs and names the addresses; the wire beneath it is ours. Bare, it knows no time-out, follows redirects, reads
errors unguarded (a body that is a list becomes an AttributeError) and sleeps or loops on a 429. So what X said never
goes back through it: it is kept here, whatever it was, and tweepy is told that all is well.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpcore
import msgspec
import requests
import tweepy
from requests.adapters import BaseAdapter
from requests.auth import AuthBase

from shareasm.deadline import TIMEOUTS, Deadline, tls, words_of
from shareasm.errors import ConfigError, LoginNeeded, NoCredits, RateLimited, Refused, Unreachable
from shareasm.model import Clock
from shareasm.networks.x import NETWORK

HOST = "https://api.twitter.com"
"""The address that tweepy signs for, an older name of api.x.com."""
OWN_HOSTS = frozenset({"api.twitter.com", "api.x.com"})

ANSWER_BYTES = 20_000_000
LONGEST_WAIT = timedelta(hours=25)

SETUP_FAULTS = frozenset({"client-forbidden", "oauth1-permissions", "unsupported-authentication"})
_ACCOUNT_GONE = re.compile(r"\b(suspended|locked|deactivated|automated)\b", re.IGNORECASE)
_LOUD = ("tweepy", "tweepy.client", "oauthlib", "requests_oauthlib", "urllib3")
"""Their DEBUG prints Authorization headers and what they sign."""


class AnswerLost(Unreachable):
    """The request may have arrived; its answer did not."""


@dataclass(frozen=True, slots=True)
class UserKeys:
    """OAuth 1.0a: the four secrets of an app and its user. They do not end."""

    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    access_token: str = field(repr=False)
    access_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """OAuth 2: a token, of a user or of the app alone."""

    token: str = field(repr=False)


Keys = UserKeys | Bearer


@dataclass(frozen=True, slots=True)
class Answer:
    """What X said, whatever it was."""

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
    def data(self) -> dict[str, Any]:
        """The answer's `data`, empty when it is no object."""
        value = self.json.get("data")
        return value if isinstance(value, dict) else {}

    @property
    def is_fine(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def is_from_x(self) -> bool:
        """Whether the API itself speaks: an edge that turns us away answers with a page."""
        return bool(self.json)

    @property
    def words(self) -> str:
        """X's own words, one line of them, with the status."""
        said = self.json
        first = _first_error(said)
        told = [text_of(part.get(name)) for part, name in ((first, "message"), (first, "detail"), (said, "detail"))]
        told += [text_of(said.get("title"))]
        words = next((" ".join(one.split()) for one in told if one.strip()), "no reason given")
        return f"{words[:300]} ({self.status})"

    @property
    def problem(self) -> str:
        """The tail of the problem's address, `credits` say: hosts differ, tails do not."""
        said = self.json
        kind = text_of(said.get("type")) or text_of(_first_error(said).get("type"))
        return kind.rstrip("/").rpartition("/")[2] if "/problems/" in kind else ""

    @property
    def is_duplicate(self) -> bool:
        """Whether X says that it has this text already."""
        return self.status == 403 and "duplicate" in self._all_words()

    @property
    def is_usage_cap(self) -> bool:
        """Whether the month's or the project's cap is reached, and not a quarter of an hour's limit."""
        return self.problem == "usage-capped" or text_of(self.json.get("title")) == "UsageCapExceeded"

    @property
    def is_about_account(self) -> bool:
        """Whether the key, the app or the account is refused, and not this one request."""
        if self.status == 401:
            return True
        return self.status == 403 and (self.problem in SETUP_FAULTS or bool(_ACCOUNT_GONE.search(self._all_words())))

    def text(self, *path: str) -> str:
        """Return the text that stands there, or nothing."""
        value: Any = self.json
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return text_of(value)

    def wait_until(self, clock: Clock) -> datetime | None:
        """Return when X wants to be asked again: the latest reset of what is used up. None when it tells none."""
        waits = [*self._waits("retry-after"), *self._resets()]
        fair = [wait for wait in waits if timedelta(0) < wait <= LONGEST_WAIT]
        return clock.now() + max(fair) if fair else None

    def date(self) -> datetime | None:
        """Return the server's own time, or None when it tells none."""
        try:
            told = parsedate_to_datetime(self.headers.get("date", ""))
        except ValueError:
            return None
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)

    def _resets(self) -> list[timedelta]:
        # Counted from the server's Date, so that a wrong clock of ours neither hurries nor sleeps.
        date = self.date() or datetime.now(UTC)
        found: list[timedelta] = []
        for family in ("x-rate-limit", "x-app-limit-24hour", "x-user-limit-24hour"):
            is_spent = self.headers.get(f"{family}-remaining", "0").strip() == "0"
            reset = _number(self.headers.get(f"{family}-reset", ""))
            if is_spent and reset is not None:
                found.append(datetime.fromtimestamp(reset, UTC) - date)
        return found

    def _waits(self, name: str) -> list[timedelta]:
        seconds = _number(self.headers.get(name, ""))
        return [] if seconds is None else [timedelta(seconds=seconds)]

    def _all_words(self) -> str:
        said = self.json
        errors = said.get("errors")
        parts = [said, *(one for one in errors if isinstance(one, dict))] if isinstance(errors, list) else [said]
        return " ".join(text_of(one.get(name)) for one in parts for name in ("title", "detail", "message")).lower()


class Server:
    """X, or the server that stands for it: single requests, no redirect, no proxy, no retry, no cookie, a deadline."""

    def __init__(self, address: str, account: str, clock: Clock) -> None:
        self.account, self.clock = account, clock
        self.base = base_of(address, account)
        self.skew = timedelta(0)
        """How far X's clock is ahead of ours, as its last answer told."""

    @property
    def name(self) -> str:
        """The address as people know it."""
        return self.base or "https://api.x.com"

    def now(self) -> datetime:
        """Return this moment by X's clock."""
        return self.clock.now() + self.skew

    def call(
        self,
        end: float,
        verb: str,
        route: str,
        keys: Keys,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Answer:
        """Make one request that is over at `end`.

        Raise Unreachable where nothing was sent, and AnswerLost where X may have acted.
        """
        client, wire = self._opened(end, keys)
        client.request(verb, route, params=params, json=json, user_auth=isinstance(keys, UserKeys))
        return self._heard(wire)

    def upload(self, end: float, route: str, keys: Keys, fields: Mapping[str, str], piece: bytes) -> Answer:
        """Send one piece of a picture as a form of parts, which tweepy cannot. Raises as `call` does."""
        client, wire = self._opened(end, keys)
        files = {"media": ("piece", piece, "application/octet-stream")}
        headers = {"Authorization": f"Bearer {keys.token}"} if isinstance(keys, Bearer) else None
        client.session.post(HOST + route, data=dict(fields), files=files, headers=headers, auth=_signer(keys))
        return self._heard(wire)

    def ask_token(self, end: float, form: Mapping[str, str], login: tuple[str, str] | None) -> Answer:
        """Ask for new tokens. Raises as `call` does."""
        client, wire = self._opened(end, Bearer(""))
        client.session.post(HOST + "/2/oauth2/token", data=dict(form), auth=login)
        return self._heard(wire)

    def hold(self, answer: Answer) -> None:
        """Raise the error that the answer is, if it is one."""
        if answer.is_fine:
            return
        about: dict[str, str] = {"network": NETWORK, "account": self.account}
        words = f"X says: {answer.words}."
        if answer.status == 429:
            raise RateLimited(None if answer.is_usage_cap else answer.wait_until(self.clock), words, **about)
        if answer.status == 402 or answer.is_usage_cap:
            raise NoCredits(words, "Buy credits in X's developer console.", **about)
        if answer.is_about_account:
            raise LoginNeeded(words, "Look at the app and its keys in X's developer console.", **about)
        is_refused = 400 <= answer.status < 500 and answer.is_from_x
        raise (Refused if is_refused else Unreachable)(words, **about)

    def unreadable(self, answer: Answer) -> Unreachable:
        """Return the error for an answer that lacks what it must hold."""
        words = f"X gave an answer that cannot be read ({answer.status})."
        return Unreachable(words, "The desk tries again.", network=NETWORK, account=self.account)

    def _opened(self, end: float, keys: Keys) -> tuple[tweepy.Client, _Wire]:
        """Return a client for one request. One that lay idle may be dead, and a post lost on it would be “unknown”."""
        _hush()
        wire = _Wire(self.base, self.account, end)
        if isinstance(keys, UserKeys):
            client = tweepy.Client(
                consumer_key=keys.api_key,
                consumer_secret=keys.api_secret,
                access_token=keys.access_token,
                access_token_secret=keys.access_secret,
            )
        else:
            client = tweepy.Client(keys.token)
        client.session.trust_env = False
        client.session.adapters.clear()
        client.session.mount(f"{HOST}/", wire)
        return client, wire

    def _heard(self, wire: _Wire) -> Answer:
        answer = wire.answer
        if answer is None:
            raise RuntimeError("tweepy sent nothing and said nothing")
        if (date := answer.date()) is not None:
            skew = date - self.clock.now()
            # A Date is cut to its second, and the answer was on its way: less than that is no skew.
            self.skew = skew if abs(skew) > timedelta(seconds=2) else timedelta(0)
        return answer


class _Wire(BaseAdapter):
    """What carries one signed request to X, or to the server that stands for it in a test."""

    def __init__(self, base: str, account: str, end: float) -> None:
        super().__init__()
        self.answer: Answer | None = None
        self._base, self._account, self._end = base, account, end

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        """Send it once and keep the answer. Return what makes tweepy content."""
        signed = urlsplit(request.url or "")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_OURS}
        headers |= {"User-Agent": "shareasm", "Accept": "application/json", "Accept-Encoding": "gzip"}
        address = request.url or ""
        if self._base:
            headers["X-Original-Host"] = signed.netloc
            address = address.replace(f"{signed.scheme}://{signed.netloc}", self._base, 1)
        self.answer = self._ask(request.method or "GET", address, headers, request.body)
        content = requests.Response()
        content.status_code, content.request, content.url = 200, request, address
        content._content = b"{}"
        content._content_consumed = True  # there is no connection behind it
        return content

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""

    def _ask(self, verb: str, address: str, headers: Mapping[str, Any], body: Any) -> Answer:
        content = body.encode() if isinstance(body, str) else body
        host = urlsplit(address).netloc
        try:
            with (
                httpcore.ConnectionPool(ssl_context=tls(), network_backend=Deadline(self._end)) as pool,
                pool.stream(
                    verb, address, headers=_as_bytes(headers), content=content, extensions={"timeout": TIMEOUTS}
                ) as answer,
            ):
                names = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Answer(answer.status, names, _unfolded(_read(answer), names.get("content-encoding", "")))
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
            happened = f"X ({host}) cannot be reached ({words_of(fault)})."
            raise Unreachable(happened, "The desk tries again.", network=NETWORK, account=self._account) from fault
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.RemoteProtocolError) as fault:
            happened = f"X ({host}) took the request and did not answer ({words_of(fault)})."
            raise AnswerLost(happened, network=NETWORK, account=self._account) from fault


_NOT_OURS = frozenset({"connection", "accept-encoding", "accept", "user-agent", "cookie"})


def base_of(address: str, where: str) -> str:
    """Return the server to ask instead of X, or nothing for X itself. Raise ConfigError for what is no address."""
    parts = urlsplit(address if "://" in address or not address else f"https://{address}")
    if not address or parts.hostname in OWN_HOSTS:
        return ""
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError(f"“{address}” is no address of X.", "Leave it out: X has one server.", where=where)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def text_of(value: Any) -> str:
    """Return the value if it is text, without the sign that no database takes, else nothing."""
    return value.replace("\0", "") if isinstance(value, str) else ""


def _first_error(said: Mapping[str, Any]) -> Mapping[str, Any]:
    errors = said.get("errors")
    return errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}


def _number(value: str) -> int | None:
    value = value.strip()
    return int(value) if value.isascii() and value.isdigit() and len(value) < 12 else None


def _signer(keys: Keys) -> AuthBase | None:
    if isinstance(keys, Bearer):
        return None
    handler = tweepy.OAuth1UserHandler(keys.api_key, keys.api_secret, keys.access_token, keys.access_secret)
    return handler.apply_auth()


def _hush() -> None:
    """Hold the libraries at INFO before each request: whoever turned them to DEBUG would find our keys in a log."""
    for name in _LOUD:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.INFO:
            logger.setLevel(logging.INFO)


def _as_bytes(headers: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value if isinstance(value, bytes) else str(value).encode("latin-1"))
        for name, value in headers.items()
    ]


def _read(answer: httpcore.Response) -> bytes:
    body = bytearray()
    for part in answer.iter_stream():
        body += part
        if len(body) > ANSWER_BYTES:
            raise httpcore.RemoteProtocolError("the answer is too long")
    return bytes(body)


def _unfolded(body: bytes, encoding: str) -> bytes:
    if encoding.strip().lower() != "gzip":
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, ANSWER_BYTES)
    except zlib.error as fault:
        raise httpcore.RemoteProtocolError("the answer is not what its header says") from fault
