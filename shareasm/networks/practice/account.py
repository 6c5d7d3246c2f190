"""The account: our login on the practice network."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from shareasm.errors import ConfigError, Refused, Unreachable
from shareasm.model import (
    Absent,
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
    digest_of,
)
from shareasm.networks import Identity, Setting
from shareasm.networks.practice import LIMITS
from shareasm.networks.practice.feed import Feed, readable
from shareasm.networks.practice.state import Event, FeedPost, Member, post_id
from shareasm.text import overrun

FAULTS = ("", "lost_answer", "down", "refuse", "rate", "login", "money")


class PracticeAccount:
    """Our login on the practice network. Its feed keeps every key for ever, so that no try can double a post.

    `options = {"faults": [...]}` names what befalls the first, second, … send of this value: "" nothing,
    "lost_answer" made but unanswered, "down" not made and unanswered, "refuse", "rate", "login" or "money".
    """

    keeps_key: timedelta | None = timedelta.max
    settle: timedelta = timedelta(seconds=1)

    def __init__(self, setting: Setting) -> None:
        self._handle = _own_handle(setting)
        self._clock = setting.clock
        self._feed = Feed(setting.folder)
        self._faults = deque(_faults_of(setting.options or {}))

    def identity(self) -> Identity:
        """Return who we are here: whoever the desk says."""
        return Identity(self._handle, self._handle, "practice", "The rehearsal network. Nothing leaves this machine.")

    def limits(self) -> Limits:
        """Return what this network accepts."""
        return LIMITS

    def prepare(self, media: Media, content: bytes) -> Mapping[str, object]:
        """Return the picture's name, digest and alt text. Stores nothing; raises Refused when it is too large."""
        if len(content) > LIMITS.picture_bytes:
            raise Refused(f"{media.file} has more than {LIMITS.picture_bytes:,} bytes.", network="practice")
        return {"file": media.file, "digest": media.digest, "alt": media.alt}

    def compose(self, frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> Wire:
        """Return the post as the feed will hold it. Pure."""
        return {
            "account": self._handle,
            "key": frozen.key,
            "text": frozen.text,
            "language": frozen.language,
            "link": frozen.link,
            "media": [dict(m) for m in media],
            "warning": frozen.warning,
            "reply_to": thread.parent.remote_id if thread else "",
            "root": thread.root.remote_id if thread else "",
        }

    def send(self, wire: Wire) -> Outcome:
        """Make the post once. A key that was used brings the first receipt back, or a refusal if the post differs."""
        fault = self._faults.popleft() if self._faults else ""
        if fault and fault != "lost_answer":
            return _answer_of(fault, self._clock.now())
        try:
            outcome = self._make(wire)
        except (OSError, Unreachable) as error:
            return Unknown(f"The practice feed could not be written: {error}")
        return Unknown("The answer was lost, as this rehearsal asked.") if fault else outcome

    def look_up(self, wire: Wire) -> LookUp:
        """Look for the post by its key, which is exact."""
        try:
            with self._feed.locked() as file:
                self._feed.live(file, self._clock.now())
                post = self._feed.state.keyed(wire)
        except (OSError, Unreachable) as error:
            return Unclear(f"The practice feed could not be read: {error}")
        if post is None or post.gone:
            return Absent()
        return Found(_receipt(post), same=post.digest == digest_of(wire))

    def delete(self, receipt: Receipt) -> None:
        """Take a post of ours away; one that is gone or never was is no error. Raise Refused for others' posts."""
        with readable(), self._feed.locked() as file:
            now = self._clock.now()
            self._feed.live(file, now)
            post = self._feed.state.posts.get(receipt.remote_id)
            if post is None or post.gone:
                return
            if post.by != self._handle:
                raise Refused("This post is not ours.", network="practice", account=self._handle)
            gone = Event(do="gone", at=now, of=post.id, by=self._handle, ours=True)
            self._feed.write(file, [[gone]], durable=True)

    def _make(self, wire: Wire) -> Outcome:
        why = _fault_of(wire)
        if why:
            return NotApplied("content", why)
        with self._feed.locked() as file:
            now = self._clock.now()
            self._feed.live(file, now)
            state = self._feed.state
            post = state.keyed(wire)
            if post is None:
                parent = state.posts.get(wire["reply_to"])
                if wire["reply_to"] and (parent is None or parent.gone):
                    return NotApplied("content", "The post that this one answers is not there.", http_status=404)
                events = self._events(wire, now)
                self._feed.write(file, [events], durable=True)
                return Sent(_receipt(self._feed.state.posts[events[-1].id]))
        if post.gone:
            return NotApplied("content", "This post was made and taken away again.")
        if post.digest != digest_of(wire):
            return NotApplied("content", "This key belongs to another post.")
        return Sent(_receipt(post))

    def _events(self, wire: Wire, now: datetime) -> list[Event]:
        state = self._feed.state
        ours = Member(handle=wire["account"], name=wire["account"], followers=2_350, following=410)
        first = [] if wire["account"] in state.members else [Event(do="account", at=now, person=ours, ours=True)]
        post = Event(
            do="post",
            at=now,
            id=post_id(wire["account"], state.written[wire["account"]] + 1),
            by=wire["account"],
            kind="reply" if wire["reply_to"] else "original",
            text=wire["text"],
            lang=wire["language"],
            of=wire["reply_to"],
            root=wire["root"],
            links=(wire["link"],) if wire["link"] else (),
            media=tuple(f"practice:picture/{m['digest']}" for m in wire["media"]),
            key=wire["key"],
            digest=digest_of(wire),
            ours=True,
        )
        return [*first, post]


def _faults_of(options: Mapping[str, object]) -> list[str]:
    """Return what is to befall the first sends, as the account's options ask. Raise ConfigError for what cannot be."""
    value = options.get("faults", ())
    asked = [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
    for fault in asked:
        if fault not in FAULTS:
            raise ConfigError(f"The practice network knows no fault “{fault}”.", f"Known are {', '.join(FAULTS[1:])}.")
    return asked


def _own_handle(setting: Setting) -> str:
    return setting.handle.lstrip("@") or setting.name


def _receipt(post: FeedPost) -> Receipt:
    return Receipt(post.id, at=post.at)


def _answer_of(fault: str, now: datetime) -> Outcome:
    """Return what a rehearsed fault answers. Nothing was made."""
    match fault:
        case "down":
            return Unknown("No answer came, as this rehearsal asked.")
        case "refuse":
            return NotApplied("content", "Refused, as this rehearsal asked.", http_status=422)
        case "rate":
            return NotApplied("later", "Too many posts, as this rehearsal asked.", now + timedelta(minutes=1), 429)
        case "login":
            return NotApplied("account", "The key is not known, as this rehearsal asked.", http_status=401)
        case _:
            return NotApplied("money", "No credits are left, as this rehearsal asked.", http_status=402)


def _fault_of(wire: Wire) -> str:
    """Return in words why this network would not take the post, or nothing."""
    too_long = overrun(wire["text"], LIMITS)
    if too_long:
        return f"The text is too long: {too_long}."
    if len(wire["media"]) > LIMITS.pictures:
        return f"The post has {len(wire['media'])} pictures; {LIMITS.pictures} fit."
    return "" if wire["text"].strip() or wire["media"] else "The post is empty."
