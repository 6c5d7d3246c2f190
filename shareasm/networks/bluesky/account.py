"""Our account: the post is made once, whatever becomes of the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

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
)
from shareasm.networks import Identity, Setting
from shareasm.networks.bluesky import LIMITS, POST, PUBLIC_SERVER
from shareasm.networks.bluesky.login import Login
from shareasm.networks.bluesky.pictures import fit
from shareasm.networks.bluesky.record import cid_of, parts_of, record_of, url_of
from shareasm.networks.bluesky.xrpc import ACCOUNT_GONE, TOKEN_OVER, Answer, AnswerLost, Server, web_address


class BlueskyAccount:
    """Our login on one PDS. Every call ends within its deadline, whatever the server does."""

    keeps_key: timedelta | None = timedelta.max
    settle: timedelta = timedelta(seconds=10)

    def __init__(self, setting: Setting, *, call_seconds: float = 20.0, media_seconds: float = 120.0) -> None:
        self._setting = setting
        self._call_seconds, self._media_seconds = call_seconds, media_seconds
        self._server = Server(web_address(setting.server or PUBLIC_SERVER, setting.name), setting.name, setting.clock)
        self._login = Login(setting, self._server)

    def identity(self) -> Identity:
        """Ask the server who we are, and keep the DID, which `compose` needs. Raise NetworkError."""
        answer = self._as_us(self._deadline(), "GET", "com.atproto.server.getSession")
        self._server.hold(answer)
        words = "" if answer.json.get("active", True) else f"The account is {answer.text('status') or 'not active'}."
        return Identity(answer.text("handle"), answer.text("did"), self._server.base, words)

    def limits(self) -> Limits:
        """Return LIMITS, with the `picture_bytes` of the account's own setting: no server tells them."""
        wished = (self._setting.options or {}).get("picture_bytes")
        return replace(LIMITS, picture_bytes=wished) if isinstance(wished, int) else LIMITS

    def prepare(self, media: Media, content: bytes) -> Mapping[str, object]:
        """Shrink and upload one picture; return its blob and its size. What nobody names the server forgets."""
        picture = fit(content, self.limits().picture_bytes, where=media.file)
        end = time.monotonic() + self._media_seconds
        answer = self._as_us(end, "POST", "com.atproto.repo.uploadBlob", picture.content, picture.mime)
        self._server.hold(answer)
        blob = answer.json.get("blob")
        if not isinstance(blob, dict):
            raise self._server.unreadable(answer)
        return {"blob": blob, "width": picture.width, "height": picture.height}

    def compose(self, frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> Wire:
        """Return the body of `putRecord`. Pure.

        The DID comes from the kept session, so `identity` (or any other call) must have reached the server once; raise
        ConfigError otherwise. Raise ValueError where a link would be lost: a post with pictures has no room for a card,
        so its link must stand in the text.
        """
        record = record_of(frozen, thread, media)
        # The null is sent as it is: without it the server would overwrite what stands there.
        return {
            "repo": self._login.did(),
            "collection": POST,
            "rkey": frozen.key,
            "record": record,
            "swapRecord": None,
        }

    def send(self, wire: Wire) -> Outcome:
        """Try once to make the post. Never raises for what the server or the line did."""
        body, end = msgspec.json.encode(dict(wire)), self._deadline()
        try:
            answer = self._as_us(end, "POST", "com.atproto.repo.putRecord", body)
        except AnswerLost as lost:
            return Unknown(lost.happened)
        except (NetworkError, ConfigError) as fault:
            return _not_applied(fault)
        if answer.is_fine:
            return _sent(wire, answer)
        if answer.error == "InvalidSwap":
            return self._after_invalid_swap(wire, end)
        return _outcome(answer, self._setting.clock)

    def look_up(self, wire: Wire) -> LookUp:
        """Read the record under our key, without a login, and compare its CID with ours."""
        return self._look_up(wire, self._deadline())

    def delete(self, receipt: Receipt) -> None:
        """Delete the post. Deleting what is gone is not an error."""
        did, collection, rkey = parts_of(receipt.remote_id)
        body = msgspec.json.encode({"repo": did, "collection": collection, "rkey": rkey})
        self._server.hold(self._as_us(self._deadline(), "POST", "com.atproto.repo.deleteRecord", body))

    def _deadline(self) -> float:
        return time.monotonic() + self._call_seconds

    def _as_us(self, end: float, verb: str, method: str, body: bytes = b"", mime: str = "application/json") -> Answer:
        """Call with our token. One that the server refuses is renewed once: such an answer means nothing was done."""
        session = self._login.session(end)
        answer = self._server.call(end, verb, method, body=body, mime=mime, token=session.access)
        if answer.refuses_token:
            session = self._login.renewed(session, end)
            answer = self._server.call(end, verb, method, body=body, mime=mime, token=session.access)
        return answer

    def _after_invalid_swap(self, wire: Wire, end: float) -> Outcome:
        found = self._look_up(wire, end)
        if isinstance(found, Found):
            return Sent(found.receipt) if found.same else Unknown("Something else stands under this post's key.", 400)
        return Unknown("Something stood under this post's key, and it cannot be read.", 400)

    def _look_up(self, wire: Wire, end: float) -> LookUp:
        where = {name: str(wire[name]) for name in ("repo", "collection", "rkey")}
        try:
            answer = self._server.call(end, "GET", "com.atproto.repo.getRecord", params=where)
        except NetworkError as fault:
            return Unclear(fault.happened)
        if answer.error == "RecordNotFound":
            return Absent()
        cid = answer.text("cid")
        if not (answer.is_fine and cid):
            return Unclear(answer.words)
        return Found(_receipt(wire, cid), same=cid == cid_of(wire["record"]))


def _sent(wire: Wire, answer: Answer) -> Outcome:
    cid = answer.text("cid")
    receipt = _receipt(wire, cid)
    if not cid or answer.text("uri") != receipt.remote_id:
        return Unknown("The server agreed, but its answer is not about this post.", answer.status)
    return Sent(receipt)


def _outcome(answer: Answer, clock: Clock) -> Outcome:
    """Sort an answer into the classes of docs/publishing.md: what is not named there is unknown."""
    status, words = answer.status, answer.words
    if status == 429:
        return NotApplied("later", words, answer.wait_until(clock), status)
    if status == 402:
        return NotApplied("money", words, None, status)
    if status == 401 or (status in (400, 403) and answer.error in ACCOUNT_GONE | TOKEN_OVER):
        return NotApplied("account", words, None, status)
    if status in (400, 403, 404, 413, 422):
        return NotApplied("content", words, None, status)
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


def _receipt(wire: Wire, cid: str) -> Receipt:
    did, rkey = wire["repo"], wire["rkey"]
    return Receipt(remote_id=f"at://{did}/{wire['collection']}/{rkey}", url=url_of(did, rkey), cid=cid)
