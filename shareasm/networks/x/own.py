"""Own: whether a post of our timeline is the one that we sent. X gives no key, so it is told by what it says."""

from __future__ import annotations

import contextlib
import html
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shareasm.text import links

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_MS = 1_288_834_974_657
_MEDIA_LINK = re.compile(r"/(photo|video)/\d+$")
_NAMES_AT_BEGIN = re.compile(r"^(?:@\w+\s+)+")


class _Address(msgspec.Struct):
    url: str | None = None
    expanded_url: str | None = None
    media_key: str | None = None


class _Entities(msgspec.Struct):
    urls: list[_Address] | None = None


class _Attachments(msgspec.Struct):
    media_keys: list[str] | None = None
    media: list[dict[str, Any]] | None = None


class _Reference(msgspec.Struct):
    type: str = ""
    id: str | int = ""


class OwnPost(msgspec.Struct):
    """A post as our timeline shows it, in both of X's vocabularies."""

    id: str
    text: str
    created_at: datetime | None = None
    entities: _Entities | None = None
    attachments: _Attachments | None = None
    referenced_tweets: list[_Reference] | None = None
    referenced_posts: list[_Reference] | None = None


class _Meta(msgspec.Struct):
    result_count: int
    next_token: str | None = None


class Timeline(msgspec.Struct):
    """One page of our timeline. Without `meta` it is none."""

    meta: _Meta
    data: list[OwnPost] | None = None
    errors: list[dict[str, Any]] | None = None

    @property
    def posts(self) -> list[OwnPost]:
        """The posts of this page."""
        return self.data or []

    @property
    def is_whole(self) -> bool:
        """Whether it shows what it says it shows."""
        return not self.errors and self.meta.result_count == len(self.posts)


def is_ours(body: Mapping[str, Any], post: OwnPost) -> bool:
    """Return True when this post is the one that `body` asked for: its words, its parent, its number of pictures."""
    parent = str((body.get("reply") or {}).get("in_reply_to_tweet_id", ""))
    if _parent_of(post) != parent:
        return False
    if _pictures_of(post) != len((body.get("media") or {}).get("media_ids", ())):
        return False
    ours, theirs = _plain(str(body["text"])), _plain(_unfolded(post))
    if parent:  # X may put the name of whom we answer before our words
        ours, theirs = _NAMES_AT_BEGIN.sub("", ours), _NAMES_AT_BEGIN.sub("", theirs)
    return ours == theirs


def moment_of(native_id: str) -> datetime | None:
    """Return when X made a post, which its id tells to the millisecond. None for what is no id of X."""
    if not (native_id.isascii() and native_id.isdigit() and 16 <= len(native_id) <= 19):
        return None
    return _EPOCH + timedelta(milliseconds=(int(native_id) >> 22) + _EPOCH_MS)


def id_at(moment: datetime) -> int:
    """Return the smallest id that a post of this moment can have."""
    return max(0, ((moment - _EPOCH) // timedelta(milliseconds=1) - _EPOCH_MS) << 22)


def _parent_of(post: OwnPost) -> str:
    references = post.referenced_tweets or post.referenced_posts or ()
    return next((str(one.id) for one in references if one.type == "replied_to"), "")


def _pictures_of(post: OwnPost) -> int:
    attached = post.attachments
    return len(attached.media_keys or attached.media or ()) if attached else 0


def _unfolded(post: OwnPost) -> str:
    """Return the text as its author typed it: X's own short links unfolded, the link to its pictures taken away."""
    text = html.unescape(post.text)  # before the links are unfolded: an “&copy=1” in one of them is no ©
    for address in (post.entities.urls if post.entities else None) or ():
        if not address.url:
            continue
        unfolded = address.expanded_url or address.url
        is_picture = address.media_key is not None or _MEDIA_LINK.search(unfolded) is not None
        text = text.replace(address.url, "" if is_picture else unfolded)
    return text


def _plain(text: str) -> str:
    """Return the form in which texts are compared: X may change a link's case, scheme and end, and white space."""
    text = unicodedata.normalize("NFC", text)
    for link in sorted({span.text for span in links(text)}, key=len, reverse=True):
        text = text.replace(link, _bare(link))
    return " ".join(text.casefold().split())


def _bare(link: str) -> str:
    host, slash, path = link.split("://", 1)[1].partition("/")
    with contextlib.suppress(UnicodeError):  # it is not folded
        host = host.encode("ascii").decode("idna")
    return (host + slash + path).rstrip("/")
