"""Our account: one request makes the post; whatever becomes of the answer, no second one is ever sent from here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from shareasm.errors import ConfigError, DeskError, NetworkError, NoCredits, RateLimited, Unreachable
from shareasm.model import (
    Absent,
    Clock,
    Found,
    Frozen,
    Limits,
    LookUp,
    Media,
    NotApplied,
    Outcome,
    Receipt,
    Sent,
    Thread,
    Unclear,
    Unknown,
    Wire,
    utc,
)
from shareasm.networks import Identity, Setting
from shareasm.networks.x import LIMITS
from shareasm.networks.x.line import Answer, AnswerLost, Server
from shareasm.networks.x.login import Login
from shareasm.networks.x.media import upload
from shareasm.networks.x.own import OwnPost, Timeline, is_ours, moment_of
from shareasm.text import bare_domains, links

PRICE, PRICE_WITH_LINK = 0.015, 0.200
"""Dollars for one post, as X's price list of 2026-08-13 says. Whether a bare domain counts as a link, it does not say:
so the higher price is reserved."""

LOOK_BACK = timedelta(minutes=2)
"""How long before its moment a post is looked for: clocks differ, and X cuts seconds."""
TIMELINE_FIELDS = "created_at,entities,attachments,referenced_tweets"
MOST_PAGES = 10


class _Me(msgspec.Struct, frozen=True):
    """Who X says we are, and whose keys said it."""

    keys: str
    id: str
    handle: str


class XAccount:
    """Our login on X. Every call ends within its deadline, whatever X does."""

    keeps_key: timedelta | None = None
    settle: timedelta = timedelta(seconds=60)

    def __init__(
        self,
        setting: Setting,
        *,
        call_seconds: float = 20.0,
        media_seconds: float = 120.0,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self._setting, self._wait = setting, wait
        self._call_seconds, self._media_seconds = call_seconds, media_seconds
        self._server = Server(setting.server, setting.name, setting.clock)
        self._login = Login(setting, self._server)

    def identity(self) -> Identity:
        """Ask X who we are, and keep it. Raise NetworkError, or ConfigError where a secret is missing."""
        me = self._ask_who(self._deadline())
        named = self._setting.handle.lstrip("@")
        words = "" if not named or named.casefold() == me.handle.casefold() else f"The keys belong to @{me.handle}."
        return Identity(me.handle, me.id, self._server.name, words)

    def limits(self) -> Limits:
        """Return LIMITS: X does not tell them."""
        return LIMITS

    def prepare(self, media: Media, content: bytes) -> Mapping[str, object]:
        """Upload one picture with its alt text; return its id and when X forgets it. Raise NetworkError."""
        end = time.monotonic() + self._media_seconds

        def ask(
            verb: str,
            route: str,
            *,
            params: Mapping[str, str] | None = None,
            json: object = None,
            fields: Mapping[str, str] | None = None,
            piece: bytes = b"",
        ) -> Answer:
            if fields is None:
                return self._as_us(end, verb, route, params=params, json=json)
            return self._server.upload(end, route, self._login.keys(end), fields, piece)

        return upload(ask, self._server, media, content, end=end, wait=self._wait)

    def compose(self, frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> Wire:
        """Return the body of the request, and since when to look for it. Pure.

        Raise ValueError where a link would be lost: X makes no cards from a field, so it must stand in the text.
        """
        if frozen.link and frozen.link not in frozen.text:
            raise ValueError(f"{frozen.link} does not stand in the text")
        body: dict[str, object] = {"text": frozen.text}
        if thread is not None:
            body["reply"] = {"in_reply_to_tweet_id": thread.parent.remote_id}
        if media:
            body["media"] = {"media_ids": [str(one["media_id"]) for one in media]}
        return {"body": body, "since": utc(frozen.created_at).isoformat()}

    def price(self, wire: Wire) -> float:
        """Return what sending this may cost, in dollars. Pure."""
        text = str(wire["body"]["text"])
        return PRICE_WITH_LINK if links(text) or bare_domains(text) else PRICE

    def send(self, wire: Wire) -> Outcome:
        """Try once to make the post. Never raises for what X or the line did."""
        try:
            answer = self._as_us(self._deadline(), "POST", "/2/tweets", json=wire["body"])
        except AnswerLost as lost:
            return Unknown(lost.happened)
        except (NetworkError, ConfigError) as fault:
            return _not_applied(fault)
        if answer.is_fine:
            native_id = answer.text("data", "id")
            if moment_of(native_id) is None:
                return Unknown("X agreed, but its answer does not tell the post's id.", answer.status)
            return Sent(self._receipt(native_id))
        return _outcome(answer, self._setting.clock)

    def look_up(self, wire: Wire) -> LookUp:
        """Look for the post in our own timeline, back to before it was due. Absent only when all of that was shown."""
        end = self._deadline()
        since = datetime.fromisoformat(str(wire["since"]))
        try:
            for post in self._own_posts(since, end):
                if is_ours(wire["body"], post):
                    return Found(self._receipt(post.id))
        except (NetworkError, ConfigError) as fault:
            return Unclear(fault.happened)
        return Absent()

    def delete(self, receipt: Receipt) -> None:
        """Delete the post. Deleting what is gone is not an error."""
        answer = self._as_us(self._deadline(), "DELETE", f"/2/tweets/{receipt.remote_id}")
        if answer.status != 404:
            self._server.hold(answer)

    def _deadline(self) -> float:
        return time.monotonic() + self._call_seconds

    def _as_us(
        self, end: float, verb: str, route: str, *, params: Mapping[str, str] | None = None, json: object = None
    ) -> Answer:
        """Call with our keys. A token that X refuses is renewed once: such an answer means nothing was done."""
        keys = self._login.keys(end)
        answer = self._server.call(end, verb, route, keys, params=params, json=json)
        if answer.status == 401 and (renewed := self._login.renewed(keys, end)) is not None:
            answer = self._server.call(end, verb, route, renewed, params=params, json=json)
        return answer

    def _own_posts(self, since: datetime, end: float) -> Iterator[OwnPost]:
        """Yield our posts back to that moment, newest first. Raise NetworkError when one page of them is missing."""
        me = self._me(end)
        begin = self._begin(since)
        page = self._page_of(me, begin, end)
        if self._begin(since) < begin - LOOK_BACK / 2:  # the answer tells that X's clock is behind ours
            begin = self._begin(since)
            page = self._page_of(me, begin, end)
        for _ in range(MOST_PAGES):
            yield from page.posts
            if not page.meta.next_token:
                return
            page = self._page_of(me, begin, end, page.meta.next_token)
        raise Unreachable("Our timeline on X is longer than can be looked through.", account=self._setting.name)

    def _begin(self, since: datetime) -> datetime:
        return since + self._server.skew - LOOK_BACK

    def _page_of(self, me: _Me, begin: datetime, end: float, token: str = "") -> Timeline:
        params = {"max_results": "100", "tweet.fields": TIMELINE_FIELDS}
        params["start_time"] = begin.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        params |= {"pagination_token": token} if token else {}
        answer = self._as_us(end, "GET", f"/2/users/{me.id}/tweets", params=params)
        self._server.hold(answer)
        try:
            page = msgspec.json.decode(answer.body, type=Timeline)
        except msgspec.DecodeError as fault:
            raise self._server.unreadable(answer) from fault
        if not page.is_whole:
            raise self._server.unreadable(answer)
        return page

    def _me(self, end: float) -> _Me:
        """Return who we are, from what was kept while the keys are the same."""
        try:
            kept = msgspec.json.decode(self._setting.load("me") or "null", type=_Me | None)
        except msgspec.DecodeError:
            kept = None
        return kept if kept is not None and kept.keys == self._login.fingerprint() else self._ask_who(end)

    def _ask_who(self, end: float) -> _Me:
        answer = self._as_us(end, "GET", "/2/users/me")
        self._server.hold(answer)
        me = _Me(self._login.fingerprint(), answer.text("data", "id"), answer.text("data", "username"))
        if not me.id.isdigit():
            raise self._server.unreadable(answer)
        self._setting.save("me", msgspec.json.encode(me).decode())
        return me

    def _receipt(self, native_id: str) -> Receipt:
        handle = self._setting.handle.lstrip("@") or "i"
        return Receipt(native_id, f"https://x.com/{handle}/status/{native_id}", at=moment_of(native_id))


def _outcome(answer: Answer, clock: Clock) -> Outcome:
    """Sort an answer into the classes of docs/publishing.md: what is not named there is unknown."""
    status, words = answer.status, answer.words
    if answer.is_duplicate:  # a hint that an earlier try landed, never a proof: whoever asked has to look
        return Unknown(f"X has this text already: {words}", status)
    if status == 402 or answer.is_usage_cap:
        return NotApplied("money", words, None, status)
    if status == 429:
        return NotApplied("later", words, answer.wait_until(clock), status)
    if answer.is_about_account:
        return NotApplied("account", words, None, status)
    if status in (400, 403, 404, 413, 422):
        # An edge in front of X turns away with a page; that says nothing about the post.
        return NotApplied("content" if answer.is_from_x else "later", words, None, status)
    return Unknown(words, status)


def _not_applied(fault: DeskError) -> NotApplied:
    """Sort what went wrong before the post was on its way: the login, or a connection that never stood."""
    words = f"{fault.happened} {fault.what_to_do}".strip()
    match fault:
        case RateLimited():
            return NotApplied("later", words, fault.until, 429)
        case Unreachable():
            return NotApplied("later", words)
        case NoCredits():
            return NotApplied("money", words)
        case _:
            return NotApplied("account", words)
