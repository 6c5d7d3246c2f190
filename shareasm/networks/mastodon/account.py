"""Our account: the post is made once, whatever becomes of the answer."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from mastodon import Mastodon

from shareasm.errors import ConfigError, LoginNeeded, NetworkError, Refused, Unreachable
from shareasm.model import (
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
from shareasm.networks.mastodon import LIMITS, NETWORK
from shareasm.networks.mastodon.instance import Instance, Instances
from shareasm.networks.mastodon.library import written
from shareasm.networks.mastodon.line import Answer, AnswerLost, Line, dict_of, id_of, time_of
from shareasm.networks.mastodon.look_up import SKEW, OwnPosts, receipt_of
from shareasm.networks.mastodon.seen import author_of

KEY_KEPT = timedelta(minutes=55)
"""A server keeps a key for an hour after the post; five minutes are for clocks and for a request on its way."""
SETTLE, SETTLE_WITHOUT_KEY = timedelta(seconds=45), timedelta(seconds=60)
OWN_POSTS_PAGES = 25

VISIBILITIES = frozenset({"public", "unlisted", "private", "direct"})
_KEYS = uuid.UUID("6a5d5c3e-6f2a-5a59-9f0d-2f1c5a8f7b10")
_ABOUT_ACCOUNT = re.compile(
    r"token|scope|unauthori[sz]ed|authenticat|credential|log ?in\b|disabled|suspended|confirm", re.IGNORECASE
)
_MAY_PASS = re.compile(r"finished processing|try again", re.IGNORECASE)


class MastodonAccount:
    """Our login on one server. Every call ends within its deadline, whatever the server does.

    `keeps_key` is 55 minutes where the server keeps an Idempotency-Key, None where it does not or nobody knows yet:
    `identity`, `limits` and `look_up` ask. `honours_key` in the account's options is a person's word for it, and
    `absent = "resend"` that of an admin who accepts that a post which was not found twice goes out again without a key.
    `settle` is longer where no key catches a post that comes late.
    """

    keeps_key: timedelta | None
    settle: timedelta

    def __init__(
        self, setting: Setting, *, call_seconds: float = 20.0, media_seconds: float = 120.0, poll_seconds: float = 1.0
    ) -> None:
        self._setting, self._options = setting, setting.options or {}
        self._call_seconds, self._media_seconds, self._poll_seconds = call_seconds, media_seconds, poll_seconds
        self._line = Line(setting)
        self._instances = Instances(setting, self._line)
        self._own_id = ""
        self._heed_instance()

    def identity(self) -> Identity:
        """Ask the server who we are, and what software it is. Raise NetworkError or ConfigError."""
        end = self._deadline()
        about = self._verify(end)
        instance = self._instance(end)
        author = author_of(about, instance.domain if instance else "")
        software = instance.words if instance else "unknown software"
        words = f"{software}; {'it keeps our keys' if self.keeps_key else 'no key of ours is kept'}"
        return Identity(author.handle, author.native_id, self._line.base, words)

    def limits(self) -> Limits:
        """Return what the server told within the last hour, or last, or else LIMITS. Never raises."""
        instance = self._instance(self._deadline())
        return instance.limits if instance else LIMITS

    def prepare(self, media: Media, content: bytes) -> Mapping[str, object]:
        """Upload one picture with its alt text and its focus, and wait until the server has worked on it.

        An upload belongs to one post: no server attaches it to a second one. What nobody names the server forgets.
        """
        end = time.monotonic() + self._media_seconds
        instance = self._instance(min(end, self._deadline()))
        if len(content) > (limit := (instance.limits if instance else LIMITS).picture_bytes):
            happened = f"{media.file} has {len(content):,} bytes, and {self._line.host} takes {limit:,}."
            raise Refused(happened, "Make it smaller.", network=NETWORK, account=self._setting.name)
        answer = self._ask(end, lambda library: _upload(library, media, content))
        self._hold_upload(answer, media)
        media_id = id_of(answer.object.get("id"))
        if not media_id:
            raise self._line.unreadable(answer)
        while answer.status in (202, 206):
            self._pause(end, media)
            answer = self._ask(end, lambda library: library.media(media_id))
            self._hold_upload(answer, media)
        return {"id": media_id, "alt": media.alt, "focus": media.focus}

    def compose(self, frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> Wire:
        """Return the parameters of the post, its Idempotency-Key and the moment before which it cannot be there. Pure.

        Raise ValueError rather than leave a link, a picture or an alt text out, or answer nothing.
        """
        _check(frozen, thread, media)
        status: dict[str, Any] = {"status": frozen.text, "visibility": frozen.visibility}
        if language := frozen.language.split(",")[0].strip():
            status["language"] = language
        if frozen.warning:
            status["spoiler_text"] = frozen.warning
        if media:
            status["media_ids"] = [str(one["id"]) for one in media]
        if thread is not None:
            status["in_reply_to_id"] = _local_id_of(thread.parent)
        key = str(uuid.uuid5(_KEYS, f"{frozen.account}/{frozen.key}"))
        return {"key": key, "since": frozen.created_at.isoformat(), "status": status}

    def send(self, wire: Wire) -> Outcome:
        """Try once to make the post. Never raises for what the server or the line did."""
        end, status = self._deadline(), dict(wire["status"])
        text = status.pop("status")
        try:
            answer = self._ask(end, lambda library: library.status_post(text, idempotency_key=wire["key"], **status))
        except AnswerLost as lost:
            return Unknown(lost.happened)
        except Unreachable as fault:
            return NotApplied("later", fault.happened)
        except (LoginNeeded, ConfigError) as fault:
            return NotApplied("account", f"{fault.happened} {fault.what_to_do}".strip())
        if not answer.is_fine:
            return self._refused(answer, is_reply="in_reply_to_id" in status)
        receipt = receipt_of(answer.object)
        if receipt is None:
            return Unknown("The server agreed, but its answer cannot be read.", answer.status)
        return Sent(receipt)

    def look_up(self, wire: Wire) -> LookUp:
        """Look for the post among our own since it was due, comparing what was said, when, to whom, with what."""
        end = self._deadline()
        try:
            self._instance(end)  # `keeps_key` is asked for next
            return self._look_up(end, wire)
        except (NetworkError, ConfigError) as fault:
            return Unclear(fault.happened)

    def delete(self, receipt: Receipt) -> None:
        """Delete the post. Deleting what is gone is not an error; what is still there afterwards is."""
        end = self._deadline()
        local = receipt.cid or self._local_id(end, receipt)
        if not local:
            return
        answer = self._ask(end, lambda library: library.status_delete(local))
        if answer.status in (404, 410):
            # A server that knows no deletion (snac) answers 404 as well.
            answer = self._ask(end, lambda library: library.status(local))
            if answer.is_fine:
                happened = f"{self._line.host} keeps {receipt.url or receipt.remote_id}: it does not let us delete."
                raise Refused(happened, "Delete it there by hand.", network=NETWORK, account=self._setting.name)
            if answer.status in (404, 410):
                return
        self._line.hold(answer)

    # ── The way there ────────────────────────────────────────────────────────────────────────────────────────────────

    def _instance(self, end: float) -> Instance | None:
        try:
            return self._instances.read(end, token=self._line.token())
        except (ConfigError, LoginNeeded):
            return self._instances.read(end)
        finally:
            self._heed_instance()

    def _heed_instance(self) -> None:
        honours, wished = self._options.get("honours_key"), self._options.get("settle")
        if not isinstance(honours, bool):
            honours = self._instances.known is not None and self._instances.known.honours_key
        self.keeps_key = KEY_KEPT if honours or self._options.get("absent") == "resend" else None
        self.settle = SETTLE if honours else SETTLE_WITHOUT_KEY
        if isinstance(wished, int | float) and wished > 0:
            self.settle = timedelta(seconds=wished)

    def _deadline(self) -> float:
        return time.monotonic() + self._call_seconds

    def _ask(self, end: float, request: Callable[[Mastodon], object]) -> Answer:
        """Make the one request that Mastodon.py writes. Raise Unreachable, LoginNeeded or ConfigError."""
        return self._line.call(end, written(self._line, self._line.token(), request))

    def _verify(self, end: float) -> Mapping[str, Any]:
        answer = self._ask(end, lambda library: library.account_verify_credentials())
        if answer.status in (400, 403, 422) and _ABOUT_ACCOUNT.search(answer.words):
            raise self._line.login_needed(answer)  # Takahe says 400, snac 422
        self._line.hold(answer)
        self._own_id = id_of(answer.object.get("id"))
        if not self._own_id:
            raise self._line.unreadable(answer)
        return answer.object

    def _hold_upload(self, answer: Answer, media: Media) -> None:
        if answer.status in (400, 413, 415, 422) and not _ABOUT_ACCOUNT.search(answer.words):
            happened = f"{self._line.host} does not take {media.file}: {answer.words}."
            raise Refused(happened, "Save it again as JPEG or PNG.", network=NETWORK, account=self._setting.name)
        if 400 <= answer.status < 500 and answer.status not in (401, 402, 429):
            words = f"{self._line.host} took no picture: {answer.words}."  # the server's trouble, not the picture's
            raise Unreachable(words, network=NETWORK, account=self._setting.name)
        self._line.hold(answer)

    def _pause(self, end: float, media: Media) -> None:
        if time.monotonic() + self._poll_seconds >= end:
            happened = f"{self._line.host} has not finished its work on {media.file}."
            raise Unreachable(happened, "The desk tries again.", network=NETWORK, account=self._setting.name)
        time.sleep(self._poll_seconds)

    def _refused(self, answer: Answer, *, is_reply: bool) -> Outcome:
        """Sort an answer into the classes of docs/publishing.md: what is not named there is unknown.

        A 500 is unknown also where it looks like a refusal: versions before mastodon#40439 answer so to a repeated key
        although the post is there.
        """
        status, words = answer.status, answer.words
        if status == 429:
            return NotApplied("later", words, answer.wait_until(self._setting.clock), status)
        if status == 402:
            return NotApplied("money", words, None, status)
        if status == 401 or (status in (400, 403, 422) and _ABOUT_ACCOUNT.search(words)):
            return NotApplied("account", f"{words}. {self._line.where_the_token_belongs()}", None, status)
        if (status == 404 and not is_reply) or (status == 422 and _MAY_PASS.search(words)):
            return NotApplied("later", words, None, status)  # no fault of this post's: nothing is posted there now
        if status in (400, 403, 404, 413, 422):
            return NotApplied("content", words, None, status)
        return Unknown(words, status)

    # ── Our own posts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_up(self, end: float, wire: Wire) -> LookUp:
        posts: OwnPosts | None = None
        for _ in range(OWN_POSTS_PAGES):
            answer = self._own_posts(end, posts.last_id if posts else "")
            if posts is None:
                posts = OwnPosts(wire, time_of(wire["since"]) - SKEW - self._behind(answer))
            rows = answer.json
            if not rows:
                return posts.end()  # all that there is was read
            if not posts.take(rows):
                break
            if posts.reaches_back:
                return posts.end()
        return (posts.best if posts else None) or Unclear("Our own posts do not reach back to when it was sent.")

    def _own_posts(self, end: float, max_id: str) -> Answer:
        if not self._own_id:
            self._verify(end)
        own, before = self._own_id, max_id or None
        answer = self._ask(end, lambda library: library.account_statuses(own, max_id=before, limit=40))
        self._line.hold(answer)
        if not isinstance(answer.json, list):
            raise self._line.unreadable(answer)
        return answer

    def _behind(self, answer: Answer) -> timedelta:
        """Return how far the server's clock is behind ours: its posts carry its times."""
        told = answer.told_at()
        return max(timedelta(0), self._setting.clock.now() - told) if told else timedelta(0)

    def _local_id(self, end: float, receipt: Receipt) -> str:
        """Return the post's id on this server, which a receipt given by a person lacks; nothing when it is gone."""
        last = ""
        for _ in range(OWN_POSTS_PAGES):
            rows = [dict_of(row) for row in self._own_posts(end, last).json]
            for row in rows:
                if receipt.remote_id in (row.get("uri"), row.get("url")):
                    return id_of(row.get("id"))
            if not rows or (following := id_of(rows[-1].get("id"))) == last:
                return ""
            last = following
        happened = f"{receipt.remote_id} was not found among our last posts."
        raise Unreachable(happened, "Delete it there by hand.", network=NETWORK, account=self._setting.name)


def _upload(library: Mastodon, media: Media, content: bytes) -> object:
    focus = _focus_of(media.focus)
    return library.media_post(
        BytesIO(content), media.mime, description=media.alt or None, focus=focus, file_name=_plain(media)
    )


def _plain(media: Media) -> str:
    """Return a file name that says nothing: some servers show it."""
    return f"{media.digest[:16] or 'picture'}.{media.mime.rpartition('/')[2] or 'bin'}"


def _focus_of(focus: str) -> tuple[float, float] | None:
    if not focus:
        return None
    x, _, y = focus.partition(",")
    return max(-1.0, min(1.0, float(x))), max(-1.0, min(1.0, float(y)))


def _local_id_of(receipt: Receipt) -> str:
    """Return the post's id on our server, which ends its address where a person told us no more than that."""
    return receipt.cid or id_of(urlsplit(receipt.remote_id or receipt.url).path.rstrip("/").rpartition("/")[2])


def _check(frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> None:
    if frozen.visibility not in VISIBILITIES:
        raise ValueError(f"“{frozen.visibility}” is no visibility on Mastodon")
    if frozen.link and frozen.link not in frozen.text:
        raise ValueError(f"{frozen.link} would be lost: Mastodon has no card of ours, put the link into the text")
    if len(media) != len(frozen.media):
        raise ValueError(f"{len(frozen.media)} pictures were approved and {len(media)} prepared")
    for approved, ready in zip(frozen.media, media, strict=True):
        if (ready.get("alt"), ready.get("focus")) != (approved.alt, approved.focus):
            raise ValueError(f"{approved.file} was prepared for another post, with another alt text")
    if thread is not None and not _local_id_of(thread.parent):
        raise ValueError(f"{thread.parent.remote_id} cannot be answered without its id on our server")
