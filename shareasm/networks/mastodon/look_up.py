"""Look-up: which of our own posts is the one whose answer was lost. Pure.

No server tells a post's Idempotency-Key, so the post is known by what it says, when it came, what it answers and how
many pictures it has. Whoever finds nothing may say “absent” only if the pages read reach back before the intent.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shareasm import text as texts
from shareasm.model import Absent, Found, LookUp, Receipt, Unclear, Wire
from shareasm.networks.mastodon.line import dict_of, id_of, list_of, text_of, time_of
from shareasm.networks.mastodon.markup import words_of

SKEW = timedelta(minutes=2)
"""How far the server's clock may be behind ours beyond what its own `Date` tells."""

_DROP = dict.fromkeys(map(ord, texts.ZERO_WIDTH))


@dataclass(slots=True)
class OwnPosts:
    """Our own posts, newest first, as page after page of them is read."""

    wire: Wire
    since: datetime
    found: list[Found] = field(default_factory=list)
    last_id: str = ""
    reaches_back: bool = False
    is_whole: bool = True
    """False once a post could not be read: it may be the one."""
    _met: set[str] = field(default_factory=set)

    def take(self, statuses: Sequence[Any]) -> bool:
        """Compare one page. Return False when it brought nothing that was not there before."""
        rows = [dict_of(status) for status in statuses]
        new = [row for row in rows if id_of(row.get("id")) not in self._met]
        self._met |= {id_of(row.get("id")) for row in new}
        ages = [made_at(row) for row in rows]
        self.is_whole &= (
            all(receipt_of(row) and isinstance(row.get("content"), str) for row in rows) and None not in ages
        )
        # All of them: some servers do not keep the newest first.
        self.reaches_back = all(age is not None and age < self.since for age in ages)
        self.found += [found for row in new if (found := compare(self.wire, row, self.since)) is not None]
        self.last_id = next((id_of(row.get("id")) for row in reversed(rows)), "")
        return bool(new)

    def end(self) -> LookUp:
        """Return what was found, once all was read that may hold it."""
        return self.best or (Absent() if self.is_whole else Unclear("One of our own posts there cannot be read."))

    @property
    def best(self) -> Found | None:
        """The oldest post that is the same, else one that differs in something, else None."""
        by_age = sorted(self.found, key=lambda one: one.receipt.at or self.since)
        return next((one for one in by_age if one.same), by_age[0] if by_age else None)


def compare(wire: Wire, status: Mapping[str, Any], since: datetime) -> Found | None:
    """Return the post as ours, the same or in some part another, or None when it is not the one. Pure."""
    at, receipt = made_at(status), receipt_of(status)
    if at is None or at < since or receipt is None or status.get("reblog"):
        return None
    sent = dict_of(wire.get("status"))
    ours, theirs = text_of(sent.get("status")), words_of(text_of(status.get("content"))).text
    is_equal = spoken(ours) == spoken(theirs)
    if not is_equal and letters(ours) != letters(theirs):
        return None
    parent, its_parent = text_of(sent.get("in_reply_to_id")), id_of(status.get("in_reply_to_id"))
    if its_parent != parent and (its_parent or not parent):  # none at all: the part before it was taken away
        return None
    return Found(receipt, same=is_equal and its_parent == parent and _agrees(sent, status))


def receipt_of(status: Mapping[str, Any]) -> Receipt | None:
    """Return what a server gave us for a post: its `uri`, the same everywhere, and its id on this server."""
    uri, local = text_of(status.get("uri")), id_of(status.get("id"))
    if not (uri and local):
        return None
    return Receipt(remote_id=uri, url=text_of(status.get("url")) or uri, cid=local, at=made_at(status))


def made_at(status: Mapping[str, Any]) -> datetime | None:
    """Return when the post was made, None where that cannot be read."""
    try:
        return time_of(status.get("created_at"))
    except (ValueError, OverflowError):
        return None


def spoken(text: str) -> str:
    """Return the text in the form in which two of them are compared: what every server keeps of it. Pure."""
    text = unicodedata.normalize("NFC", text).translate(_DROP)
    for mention in reversed(texts.mentions(text)):  # some show the server of a handle, some do not
        text = text[: mention.start] + "@" + mention.text.partition("@")[0] + text[mention.end :]
    for link in reversed(texts.links(text)):  # “https://asm.org” comes back as “https://asm.org/”
        text = text[: link.start] + link.text.rstrip("/") + text[link.end :]
    return " ".join(text.split())  # U+00A0 too, and every number of lines


def letters(text: str) -> str:
    """Return letters and digits alone: what is left where a server read our stars as Markdown. Pure."""
    return "".join(re.findall(r"[^\W_]", spoken(text))).casefold() or spoken(text)


def _agrees(sent: Mapping[str, Any], status: Mapping[str, Any]) -> bool:
    language, its_language = text_of(sent.get("language")), text_of(status.get("language"))
    same_language = not (language and its_language) or _base(language) == _base(its_language)
    same_warning = spoken(text_of(sent.get("spoiler_text"))) == spoken(text_of(status.get("spoiler_text")))
    pictures = list_of(sent.get("media_ids"))
    return same_language and same_warning and len(pictures) == len(list_of(status.get("media_attachments")))


def _base(language: str) -> str:
    return re.split("[-_]", language, maxsplit=1)[0].casefold()
