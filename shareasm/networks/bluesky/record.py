"""Record: what a post of ours says on Bluesky, and the CID under which every server stores it. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

import libipld

from shareasm import text as texts
from shareasm.model import Frozen, Media, Receipt, Thread
from shareasm.networks.bluesky import LIMITS, POST


def record_of(frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """Return the post as its lexicon writes it. Raise ValueError rather than leave a link or a picture out."""
    if frozen.link and frozen.media:
        raise ValueError(f"{frozen.link} would be lost: a post with pictures has no card, put the link into its text")
    if len(media) != len(frozen.media):
        raise ValueError(f"{len(frozen.media)} pictures were approved and {len(media)} prepared")
    created_at = frozen.created_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record: dict[str, Any] = {"$type": POST, "text": frozen.text, "createdAt": created_at}
    if languages := [one.strip() for one in frozen.language.split(",") if one.strip()][: LIMITS.languages]:
        record["langs"] = languages
    if facets := list(_facets(frozen.text)):
        record["facets"] = facets
    if media:
        record["embed"] = _images(frozen.media, media)
    elif frozen.link:
        card = {"uri": frozen.link, "title": urlsplit(frozen.link).hostname or frozen.link, "description": ""}
        record["embed"] = {"$type": "app.bsky.embed.external", "external": card}
    if thread is not None:
        record["reply"] = {"root": _reference(thread.root), "parent": _reference(thread.parent)}
    return record


def _facets(text: str) -> Iterator[dict[str, Any]]:
    """Yield what makes hashtags and links work: without its facet a hashtag is plain text on Bluesky."""
    marks = [(span, {"$type": "app.bsky.richtext.facet#link", "uri": span.text}) for span in texts.links(text)]
    for span in texts.hashtags(text):
        if texts.count_graphemes(span.text) <= 64:  # the lexicon's limit: a longer one would sink the whole post
            marks.append((span, {"$type": "app.bsky.richtext.facet#tag", "tag": span.text}))
    for span, feature in sorted(marks, key=lambda mark: mark[0].byte_start):
        yield {"index": {"byteStart": span.byte_start, "byteEnd": span.byte_end}, "features": [feature]}


def _images(approved: Sequence[Media], prepared: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    images = [
        {"image": ready["blob"], "alt": media.alt, "aspectRatio": {"width": ready["width"], "height": ready["height"]}}
        for media, ready in zip(approved, prepared, strict=True)
    ]
    return {"$type": "app.bsky.embed.images", "images": images}


def _reference(receipt: Receipt) -> dict[str, str]:
    if not receipt.cid:
        raise ValueError(f"{receipt.remote_id} cannot be answered without its CID")
    return {"uri": receipt.remote_id, "cid": receipt.cid}


def cid_of(record: Mapping[str, Any]) -> str:
    """Return the CID under which a server stores this record. Pure."""
    encoded = libipld.encode_dag_cbor(_from_json(record))
    return libipld.encode_cid(b"\x01\x71\x12\x20" + hashlib.sha256(encoded).digest())


def _from_json(value: Any) -> Any:
    """Return the record as DAG-CBOR means it: `$link` becomes a link, `$bytes` bytes."""
    if isinstance(value, Mapping):
        if value.keys() == {"$link"}:
            return libipld.decode_multibase(value["$link"])[1]
        if value.keys() == {"$bytes"}:
            return base64.b64decode(value["$bytes"] + "==")
        return {name: _from_json(inner) for name, inner in value.items()}
    return [_from_json(inner) for inner in value] if isinstance(value, list | tuple) else value


def to_json(value: Any) -> Any:
    """Return what DAG-CBOR held in the form of atproto's JSON."""
    if isinstance(value, dict):
        return {name: to_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_json(inner) for inner in value]
    if isinstance(value, bytes):
        if len(value) == 36 and value[:4] in (b"\x01\x71\x12\x20", b"\x01\x55\x12\x20"):
            return {"$link": libipld.encode_cid(value)}
        return {"$bytes": base64.b64encode(value).decode().rstrip("=")}
    return value


def parts_of(uri: str) -> tuple[str, str, str]:
    """Return DID, collection and key of a record's address. Raise ValueError for another one."""
    scheme, _, path = uri.partition("://")
    parts = path.split("/")
    if scheme != "at" or len(parts) != 3:
        raise ValueError(f"{uri} is not the address of a record")
    return parts[0], parts[1], parts[2]


def url_of(did: str, rkey: str) -> str:
    """Return where a reader finds the post."""
    return f"https://bsky.app/profile/{did}/post/{rkey}"
