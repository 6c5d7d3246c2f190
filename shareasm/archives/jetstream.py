"""Jetstream: the lines of Bluesky's live stream, as someone kept them.

One line is one event of one account: a post or repost made, changed or deleted, or the account itself gone or back.
Likes, follows and all other records are no mentions. The stream tells no counts, names or followers: they are null.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import BinaryIO

import msgspec
from msgspec import Raw, Struct

from shareasm.archives import Batch, Fault
from shareasm.archives._json import LONGEST_RECORD, Text, Unreadable, decoded, is_given, or_none, texts
from shareasm.errors import ArchiveError
from shareasm.model import AccountChanged, Author, Kind, Removed, Seen, utc

NAME = "jetstream"

BATCH_RECORDS = 500
BATCH_BYTES = 4 * 1024**2

_NOTHING = Raw()
_POST = "app.bsky.feed.post"
_REPOST = "app.bsky.feed.repost"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ABSURD = datetime(2000, 1, 1, tzinfo=UTC)
"""Bluesky lets an app write any `createdAt`; the year 0001 occurs. Posts brought along from elsewhere are younger."""
_NOT_FOR_STRANGERS = "!no-unauthenticated"


def recognises(head: bytes) -> bool:
    """Return True when the first whole line is an event with `did`, `time_us` and `kind`."""
    for text in islice(texts(io.BytesIO(head)), 20):
        event = or_none(text.body, _Event)
        if event is not None:
            return bool(event.did and event.time_us is not None and event.kind)
    return False


def read(content: BinaryIO) -> Iterator[Batch]:
    """Yield every post and repost with its line, and what was deleted. One broken line is one Fault.

    A batch ends with the line that brings it to 500 records.
    """
    batch = _Batch()
    try:
        for text in texts(content):
            batch.bytes_read += text.size
            _read_text(text, batch)
            if batch.is_full():
                yield batch.closed()
                batch = _Batch()
    except ArchiveError:  # the content is damaged from here on; what came before it counts
        yield batch.closed()
        raise
    if batch.bytes_read:
        yield batch.closed()


# What the stream sends. Every field may be missing or null; what is not named here stays in the raw record alone.


class _Ref(Struct):
    uri: str | None = None


class _Quoted(Struct):
    """What an embed shows: a post, or with media beside it one level deeper."""

    uri: str | None = None
    record: _Ref | None = None


class _BlobRef(Struct):
    link: str | None = msgspec.field(default=None, name="$link")


class _Blob(Struct):
    ref: _BlobRef | None = None


class _Image(Struct):
    image: _Blob | None = None


class _Media(Struct):
    external: _Ref | None = None
    images: list[_Image | None] | None = None
    video: _Blob | None = None


class _Embed(_Media):
    record: _Quoted | None = None
    media: _Media | None = None


class _Feature(Struct):
    tag: str | None = None
    uri: str | None = None
    did: str | None = None


class _Facet(Struct):
    features: list[_Feature | None] | None = None


class _Reply(Struct):
    parent: _Ref | None = None
    root: _Ref | None = None


class _Label(Struct):
    val: str | None = None


class _Labels(Struct):
    values: list[_Label | None] | None = None


class _Record(Struct):
    created_at: str | None = msgspec.field(default=None, name="createdAt")
    text: str | None = None
    langs: list[str | None] | None = None
    facets: list[_Facet | None] | None = None
    tags: list[str | None] | None = None
    reply: _Reply | None = None
    embed: _Embed | None = None
    labels: _Labels | None = None
    subject: _Ref | None = None


class _Commit(Struct):
    operation: str | None = None
    collection: str | None = None
    rkey: str | None = None
    record: Raw = _NOTHING


class _AccountState(Struct):
    active: bool | None = None


class _Event(Struct):
    did: str | None = None
    time_us: int | None = None
    kind: str | None = None
    commit: _Commit | None = None
    account: _AccountState | None = None


@dataclass(slots=True)
class _Batch:
    """The batch that is being filled."""

    seen: list[Seen] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    accounts: list[AccountChanged] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    bytes_read: int = 0

    def is_full(self) -> bool:
        records = len(self.seen) + len(self.removed) + len(self.accounts) + len(self.faults)
        return records >= BATCH_RECORDS or self.bytes_read >= BATCH_BYTES

    def closed(self) -> Batch:
        return Batch(
            seen=self.seen,
            lines=self.lines,
            removed=self.removed,
            accounts=self.accounts,
            faults=self.faults,
            bytes_read=self.bytes_read,
        )


def _read_text(text: Text, batch: _Batch) -> None:
    if not text.body and not text.too_long:
        return
    try:
        if text.too_long:
            raise Unreadable(f"This line is longer than {LONGEST_RECORD // 1024**2} MiB: it is no event.")
        event = decoded(text.body, _Event)
        if not event.did or not event.did.startswith("did:") or not event.kind:
            raise Unreadable("This is no event of Bluesky's stream: it names no account or no kind.")
        if event.account is not None and event.account.active is not None:
            batch.accounts.append(AccountChanged("bluesky", event.did, event.account.active))
        elif event.commit is not None and event.commit.collection in (_POST, _REPOST):
            _read_commit(event.did, event.commit, event.time_us, text, batch)
    except Unreadable as why:
        batch.faults.append(Fault(text.line, str(why)))


def _read_commit(did: str, commit: _Commit, time_us: int | None, text: Text, batch: _Batch) -> None:
    if not commit.rkey:
        raise Unreadable("This event does not say which post it is about.")
    native_id = f"at://{did}/{commit.collection}/{commit.rkey}"
    if commit.operation == "delete":
        batch.removed.append(Removed("bluesky", native_id))
    elif is_given(commit.record):
        record = decoded(commit.record, _Record)
        came_at = _came_at(time_us)
        edited_at = came_at if commit.operation == "update" else None
        seen_of = _post if commit.collection == _POST else _repost
        batch.seen.append(seen_of(native_id, did, record, _posted_at(record.created_at, came_at), edited_at, text.body))
        batch.lines.append(text.line)
    else:
        raise Unreadable("This event says that a post was made, and does not hold it.")


def _post(
    native_id: str, did: str, record: _Record, posted_at: datetime, edited_at: datetime | None, raw: bytes
) -> Seen:
    reply = record.reply or _Reply()
    parent, root, quoted = _uri(reply.parent), _uri(reply.root), _quoted(record.embed)
    kind: Kind = "reply" if parent else "quote" if quoted else "original"
    features = [feature for facet in record.facets or () if facet for feature in facet.features or () if feature]
    shown = [embed for embed in (record.embed, record.embed and record.embed.media) if embed]
    return Seen(
        network="bluesky",
        native_id=native_id,
        author=_author(did, record),
        kind=kind,
        posted_at=posted_at,
        text=record.text or "",
        language=next((language for language in record.langs or () if language), ""),
        tags=_distinct((*(feature.tag for feature in features), *(record.tags or ()))),
        links=_distinct((*(feature.uri for feature in features), *(_uri(embed.external) for embed in shown))),
        of_id=parent or quoted,
        reply_to_id=parent,
        quote_of_id=quoted,
        root_id=root or parent or native_id,
        mentions=_distinct(feature.did for feature in features),
        media=_distinct(_blob(blob) for embed in shown for blob in _blobs(embed)),
        url=f"https://bsky.app/profile/{did}/post/{native_id.rpartition('/')[2]}",
        edited_at=edited_at,
        raw=raw,
    )


def _repost(
    native_id: str, did: str, record: _Record, posted_at: datetime, edited_at: datetime | None, raw: bytes
) -> Seen:
    subject = _uri(record.subject)
    if not subject:
        raise Unreadable("This repost does not say what it reposts.")
    return Seen(
        network="bluesky",
        native_id=native_id,
        author=_author(did, record),
        kind="repost",
        posted_at=posted_at,
        text="",
        of_id=subject,
        edited_at=edited_at,
        raw=raw,
    )


def _author(did: str, record: _Record) -> Author:
    labels = (record.labels and record.labels.values) or ()
    return Author(did, may_be_named=not any(label and label.val == _NOT_FOR_STRANGERS for label in labels))


def _came_at(time_us: int | None) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=time_us) if time_us is not None else None
    except OverflowError:
        return None


def _posted_at(created_at: str | None, came_at: datetime | None) -> datetime:
    """Return when it was written, as its app says; when the stream saw it, where that lies in the future or absurd."""
    try:
        written_at = utc(datetime.fromisoformat(created_at)) if created_at else None
    except (ValueError, OverflowError):
        written_at = None
    if written_at is not None and written_at < _ABSURD:
        written_at = None
    known = [moment for moment in (written_at, came_at) if moment is not None]
    if not known:
        raise Unreadable("This event has no time that can be read.")
    return min(known)


def _quoted(embed: _Embed | None) -> str:
    """Return the post that is quoted. Feeds, lists and starter packs are embedded the same way and are none."""
    record = embed.record if embed else None
    uri = (record.uri or _uri(record.record)) if record else ""
    return uri if f"/{_POST}/" in uri else ""


def _blobs(media: _Media) -> Iterator[_Blob | None]:
    yield from (image.image for image in media.images or () if image)
    yield media.video


def _blob(blob: _Blob | None) -> str:
    return (blob.ref.link or "") if blob and blob.ref else ""


def _uri(ref: _Ref | None) -> str:
    return (ref.uri or "") if ref else ""


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
