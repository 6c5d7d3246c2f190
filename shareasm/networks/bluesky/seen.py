"""Seen: a record that anybody may have written, as a row of ours.

Each part is read for itself, and one of the wrong type counts as absent: no record can stop the stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from shareasm.model import Author, Kind, Seen
from shareasm.networks.bluesky import NETWORK, POST
from shareasm.networks.bluesky.record import parts_of, url_of
from shareasm.networks.bluesky.wires import Event
from shareasm.networks.bluesky.xrpc import text_of

FIRST_POST = datetime(2006, 3, 21, tzinfo=UTC)
"""Nobody posted anywhere before. An imported post may be older than Bluesky."""

ADDRESS_OF_POST = re.compile(rf"at://[^/\s]+/{re.escape(POST)}/[^/\s]+")


def seen_post(event: Event) -> Seen:
    """Return the post that the event holds."""
    record = event.record
    features = [_dict(one) for facet in _list(record.get("facets")) for one in _list(_dict(facet).get("features"))]
    embed, quote = _dict(record.get("embed")), _quote_of(_dict(record.get("embed")))
    reply = _dict(record.get("reply"))
    parent, root = (text_of(_dict(reply.get(name)).get("uri")) for name in ("parent", "root"))
    kind: Kind = "reply" if parent else "quote" if quote else "original"
    external = text_of(_dict(embed.get("external")).get("uri"))
    return Seen(
        network=NETWORK,
        native_id=event.uri,
        author=Author(native_id=event.did, may_be_named="!no-unauthenticated" not in _labels(record)),
        kind=kind,
        posted_at=_posted_at(event),
        text=text_of(record.get("text")),
        language=next((one for one in map(text_of, _list(record.get("langs"))) if one), ""),
        tags=_unique([*(text_of(one.get("tag")) for one in features), *map(text_of, _list(record.get("tags")))]),
        links=_unique([*(text_of(one.get("uri")) for one in features), external]),
        of_id=parent or quote,
        reply_to_id=parent,
        quote_of_id=quote,
        root_id=root,
        mentions=_unique(text_of(one.get("did")) for one in features),
        media=_unique(_pictures(event.did, embed)),
        url=url_of(event.did, event.rkey),
        edited_at=event.at if event.what == "update" else None,
        raw=_raw(event),
    )


def seen_repost(event: Event) -> Seen | None:
    """Return the repost, or None when it is of a feed or a list."""
    subject = text_of(_dict(event.record.get("subject")).get("uri"))
    if not _is_post(subject):
        return None
    did, _, rkey = parts_of(subject)
    return Seen(
        network=NETWORK,
        native_id=event.uri,
        author=Author(native_id=event.did),
        kind="repost",
        posted_at=_posted_at(event),
        text="",
        of_id=subject,
        url=url_of(did, rkey),
        raw=_raw(event),
    )


def _quote_of(embed: Mapping[str, Any]) -> str:
    inner = _dict(embed.get("record"))
    uri = text_of(inner.get("uri")) or text_of(_dict(inner.get("record")).get("uri"))  # alone, or beside media
    return uri if _is_post(uri) else ""


def _pictures(did: str, embed: Mapping[str, Any]) -> Iterator[str]:
    for image in _list(embed.get("images")) or _list(_dict(embed.get("media")).get("images")):
        link = text_of(_dict(_dict(_dict(image).get("image")).get("ref")).get("$link"))
        if link:
            yield f"https://cdn.bsky.app/img/feed_fullsize/plain/{did}/{link}@jpeg"


def _labels(record: Mapping[str, Any]) -> set[str]:
    return {text_of(_dict(one).get("val")) for one in _list(_dict(record.get("labels")).get("values"))}


def _posted_at(event: Event) -> datetime:
    """Return createdAt, but never later than the server saw the post, and that moment where createdAt is absurd."""
    seen_at = event.at or datetime.now(UTC)
    try:
        created = datetime.fromisoformat(text_of(event.record.get("createdAt")))
        created = created.astimezone(UTC) if created.tzinfo else seen_at
    except (ValueError, OverflowError):
        return seen_at
    return min(created, seen_at) if created >= FIRST_POST else seen_at


def _raw(event: Event) -> bytes:
    meta = {
        "seq": event.seq,
        "time": event.at and event.at.isoformat(),
        "did": event.did,
        "operation": event.what,
        "cid": event.cid,
    }
    # The slower encoder of the standard library: it takes numbers of every size.
    return json.dumps({**meta, "uri": event.uri, "record": event.record}, ensure_ascii=False).encode(errors="replace")


def _is_post(uri: str) -> bool:
    return ADDRESS_OF_POST.fullmatch(uri) is not None


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
