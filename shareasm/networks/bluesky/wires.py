"""Wires: what a Jetstream and a firehose say, as events of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol
from urllib.parse import urlencode

import libipld
import msgspec

from shareasm.model import Query
from shareasm.networks.bluesky import POST, REPOST
from shareasm.networks.bluesky.record import to_json
from shareasm.networks.bluesky.xrpc import text_of

NOT_AS_TOLD = (ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What decoding a message raises when it does not hold what its lexicon says. Nothing but decoding stands under it."""


class Unreadable(Exception):
    """A message that does not hold what its lexicon says."""


class StreamRefused(Exception):
    """The server ends the stream and says why."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a stream told, whatever its wire. `at` is the server's moment, `seq` None for a notice."""

    what: Literal["create", "update", "delete", "account", "identity", "other", "FutureCursor", "OutdatedCursor"]
    seq: int | None = None
    at: datetime | None = None
    did: str = ""
    collection: str = ""
    rkey: str = ""
    cid: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)
    active: bool = True
    handle: str = ""

    @property
    def uri(self) -> str:
        """The address of the record."""
        return f"at://{self.did}/{self.collection}/{self.rkey}"


class StreamWire(Protocol):
    """How one kind of stream is asked and read."""

    method: str
    subprotocol: str
    tells_future: bool

    def beginning(self, query: Query) -> str:
        """Return the cursor that stands for everything the server still has."""
        ...

    def query(self, position: str) -> str:
        """Return the parameters of the address."""
        ...

    def read(self, frame: bytes) -> list[Event]:
        """Decode one message. Raise Unreadable for what is none, and StreamRefused for the server's last words."""
        ...


class Firehose:
    """com.atproto.sync.subscribeRepos of a PDS or relay: DAG-CBOR, every repository, every collection."""

    method: str = "com.atproto.sync.subscribeRepos"
    subprotocol: str = ""
    tells_future: bool = True

    def beginning(self, query: Query) -> str:
        """Return 0: the server begins with the oldest that it has."""
        return "0"

    def query(self, position: str) -> str:
        """Return the parameters of the address."""
        return urlencode({"cursor": position})

    def read(self, frame: bytes) -> list[Event]:
        """Decode one message."""
        try:
            head, body = libipld.decode_dag_cbor_multi(frame)
            return self._events(head, body)
        except NOT_AS_TOLD as fault:
            raise Unreadable(f"{type(fault).__name__}, {fault}") from fault

    def _events(self, head: Mapping[str, Any], body: Mapping[str, Any]) -> list[Event]:
        if head["op"] == -1:
            return [_notice(text_of(body.get("error")), text_of(body.get("message")))]
        kind = head.get("t")
        if kind == "#info":
            return [Event("OutdatedCursor")] if body.get("name") == "OutdatedCursor" else []
        seq, at = int(body["seq"]), _moment(body["time"])
        match kind:
            case "#commit":
                return self._commit(seq, at, body)
            case "#account":
                return [Event("account", seq, at, body["did"], active=body["active"] is True)]
            case "#identity":
                return [Event("identity", seq, at, body["did"], handle=text_of(body.get("handle")))]
            case _:  # #sync tells that a repository was repaired, not that somebody posted; new kinds may come
                return [Event("other", seq, at)]

    def _commit(self, seq: int, at: datetime, body: Mapping[str, Any]) -> list[Event]:
        """Return what the commit did to posts and reposts. The CAR, most of the work, is opened for those alone."""
        wanted = [op for op in body["ops"] if op["path"].startswith((f"{POST}/", f"{REPOST}/"))]
        if not wanted:
            return [Event("other", seq, at)]
        changes = any(op["action"] != "delete" for op in wanted)
        blocks = libipld.decode_car(body["blocks"])[1] if changes else {}
        return [self._operation(seq, at, body["repo"], op, blocks) for op in wanted]

    def _operation(self, seq: int, at: datetime, did: str, op: Mapping[str, Any], blocks: Mapping[Any, Any]) -> Event:
        collection, rkey = op["path"].split("/", 1)
        if op["action"] == "delete":
            return Event("delete", seq, at, did, collection, rkey)
        cid = op["cid"]
        record = to_json(blocks[cid])
        what = "update" if op["action"] == "update" else "create"
        return Event(what, seq, at, did, collection, rkey, libipld.encode_cid(cid), record)


class Jetstream:
    """network.bsky.jetstream.subscribeEvents (v2): JSON, only the collections asked for, numbers of its own."""

    method: str = "network.bsky.jetstream.subscribeEvents"
    subprotocol: str = "xrpc.v1.json"
    tells_future: bool = False  # numbers that our collections do not show lie between ours and the head

    def beginning(self, query: Query) -> str:
        """Return the campaign's beginning in microseconds: the server begins there, or with the oldest that it has."""
        return str(max(10**15, int(query.since.timestamp() * 1_000_000)))

    def query(self, position: str) -> str:
        """Return the parameters of the address."""
        return urlencode({"collections": [POST, REPOST], "cursor": position}, doseq=True)

    def read(self, frame: bytes) -> list[Event]:
        """Decode one message."""
        try:
            return self._events(msgspec.json.decode(frame))
        except NOT_AS_TOLD as fault:
            raise Unreadable(f"{type(fault).__name__}, {fault}") from fault

    def _events(self, message: Mapping[str, Any]) -> list[Event]:
        if message["$type"] == "error":
            return [_notice(text_of(message.get("error")), text_of(message.get("message")))]
        payload = message["payload"]
        kind = payload["$type"].rpartition("#")[2]
        if kind == "info":
            name = payload.get("name")
            return [Event(name)] if name in ("FutureCursor", "OutdatedCursor") else []
        seq, at = int(payload["seq"]), _moment(payload.get("witnessedAt") or payload["time"])
        match kind:
            case "commit":
                return [self._commit(seq, at, payload)]
            case "account":
                return [Event("account", seq, at, payload["did"], active=payload["account"]["active"] is True)]
            case "identity":
                return [Event("identity", seq, at, payload["did"], handle=text_of(payload["identity"].get("handle")))]
            case _:
                return [Event("other", seq, at)]

    def _commit(self, seq: int, at: datetime, payload: Mapping[str, Any]) -> Event:
        did, collection, rkey = payload["did"], payload["collection"], payload["rkey"]
        if collection not in (POST, REPOST):
            return Event("other", seq, at)
        if payload["operation"] == "delete":
            return Event("delete", seq, at, did, collection, rkey)
        what = "update" if payload["operation"] == "update" else "create"
        return Event(what, seq, at, did, collection, rkey, payload["cid"], dict(payload["record"]))


def _notice(error: str, message: str) -> Event:
    if error == "FutureCursor":
        return Event("FutureCursor")
    raise StreamRefused(f"the server says {error or 'no more'}{f', {message}' if message else ''}")


def _moment(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC)
