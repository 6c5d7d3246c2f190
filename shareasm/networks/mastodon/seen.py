"""Seen: a post that anybody may have written, on any kind of server, as a row of ours.

Each part is read for itself, and one of the wrong type counts as absent: no post can stop the source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shareasm.model import Author, Counts, Kind, Seen
from shareasm.networks.mastodon import NETWORK
from shareasm.networks.mastodon.line import dict_of, id_of, list_of, text_of, time_of
from shareasm.networks.mastodon.look_up import made_at
from shareasm.networks.mastodon.markup import words_of

FIRST_POST = datetime(2006, 3, 21, tzinfo=UTC)
"""Nobody posted anywhere before. An imported post may be older than Mastodon."""

_ASKS_NOT_TO_BE_NAMED = re.compile(r"#\W*(?:<[^>]*>)?\W*(?:noindex|nobot)\b", re.IGNORECASE)
_ACTOR = re.compile(r"(https?://[^/\s]+/(?:users|ap/users)/[^/\s]+)/statuses/[^/\s]+")


@dataclass(frozen=True, slots=True)
class View:
    """Who shows the posts, and when: counts, and handles without a server, are that server's."""

    domain: str
    server: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Reference:
    """A post by its `uri`, and the first of its thread, empty where nobody told."""

    uri: str
    root: str = ""


def is_mention(status: Mapping[str, Any]) -> bool:
    """Return True for a public post of its author's own. `unlisted` ones and boosts are no mentions."""
    return status.get("visibility") == "public" and not status.get("reblog")


def seen_post(status: Mapping[str, Any], view: View, parent: Reference | None) -> Seen:
    """Return the post; `parent` is what it answers, which it tells only by an id of this server's."""
    uri, words = text_of(status.get("uri")), words_of(text_of(status.get("content")))
    quoted = quoted_post(status)
    quote = text_of(quoted.get("uri"))
    is_reply = bool(status.get("in_reply_to_id") or status.get("in_reply_to_account_id"))
    kind: Kind = "reply" if is_reply else "quote" if quote else "original"
    parent = parent or Reference("")
    return Seen(
        network=NETWORK,
        native_id=uri,
        author=_author(status, view.domain),
        kind=kind,
        posted_at=_posted_at(status, view.at),
        text=words.text,
        language=text_of(status.get("language")),
        tags=_unique(text_of(dict_of(tag).get("name")) for tag in list_of(status.get("tags"))),
        links=_unique([*words.links, text_of(dict_of(status.get("card")).get("url"))]),
        of_id=parent.uri if is_reply else quote,
        reply_to_id=parent.uri,
        quote_of_id=quote,
        root_id=parent.root,
        mentions=_unique(_handle(dict_of(one), view.domain) for one in list_of(status.get("mentions"))),
        media=_unique(_media(status)),
        url=text_of(status.get("url")) or uri,
        counts=_counts(status),
        counts_at=view.at,
        counts_server=view.server,
        edited_at=_moment(status.get("edited_at")),
        public=status.get("visibility") == "public",
        raw=msgspec.json.encode(dict(status)),
    )


def quoted_post(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the post that is quoted: Mastodon wraps it with its state, older forks give it bare."""
    quote = dict_of(status.get("quote"))
    return dict_of(quote.get("quoted_status")) or (quote if quote.get("uri") else {})


def author_of(account: Mapping[str, Any], domain: str) -> Author:
    """Return who an account is, by its actor's address, which is the same everywhere, or by its profile's."""
    profile = text_of(account.get("url"))
    note = text_of(account.get("note"))
    return Author(
        native_id=text_of(account.get("uri")) or profile,
        handle=_handle(account, domain),
        name=text_of(account.get("display_name")),
        bot=account["bot"] if isinstance(account.get("bot"), bool) else None,
        created_at=_moment(account.get("created_at")),
        followers=_number(account.get("followers_count")),
        following=_number(account.get("following_count")),
        posts=_number(account.get("statuses_count")),
        may_be_named=account.get("indexable") is not False
        and account.get("noindex") is not True
        and not _ASKS_NOT_TO_BE_NAMED.search(note),
    )


def _author(status: Mapping[str, Any], domain: str) -> Author:
    account = dict_of(status.get("account"))
    if not text_of(account.get("uri")) and (told := _ACTOR.fullmatch(text_of(status.get("uri")))):
        # Servers before Mastodon 4.3 tell the profile alone, and others the actor: one author would be two.
        account = {**account, "uri": told[1]}
    return author_of(account, domain)


def _handle(account: Mapping[str, Any], domain: str) -> str:
    """Return `name@server`; on the server where the account lives the API leaves the server out."""
    name = text_of(account.get("acct")) or text_of(account.get("username"))
    home = domain or _host(text_of(account.get("url")))
    return name if "@" in name or not name else f"{name}@{home}"


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _counts(status: Mapping[str, Any]) -> Counts:
    return Counts(
        likes=_number(status.get("favourites_count")),
        reposts=_number(status.get("reblogs_count")),
        replies=_number(status.get("replies_count")),
        quotes=_number(status.get("quotes_count")),
    )


def _media(status: Mapping[str, Any]) -> Iterator[str]:
    for one in map(dict_of, list_of(status.get("media_attachments"))):
        yield text_of(one.get("remote_url")) or text_of(one.get("url"))  # the first is the same on every server


def _posted_at(status: Mapping[str, Any], seen_at: datetime) -> datetime:
    """Return when it was posted, but never later than it was seen, and that moment where the time is absurd."""
    made = made_at(status)
    return min(made, seen_at) if made is not None and made >= FIRST_POST else seen_at


def _moment(value: Any) -> datetime | None:
    try:
        return time_of(value)
    except (ValueError, OverflowError):
        return None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))


def reference_of(status: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a post's id on this server, its `uri`, and the id of what it answers."""
    return id_of(status.get("id")), text_of(status.get("uri")), id_of(status.get("in_reply_to_id"))
