"""Jetstream: a local one, which reads a PDS's subscribeRepos and serves Jetstream's JSON wires on loopback.

v2  /xrpc/network.bsky.jetstream.subscribeEvents?collections=&dids=&kinds=&cursor=   (atproto's JetstreamClient)
v1  /subscribe?wantedCollections=&wantedDids=&cursor=<time_us>
The history is kept in memory; a restarted one reads it again from the PDS, under the same sequence numbers.
Written from the client's code and lexicon, never compared with a public server.
"""

import asyncio
import base64
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import libipld
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import WebSocketException

from . import ROOT
from .process import Process, free_ports

NSID = "network.bsky.jetstream.subscribeEvents"
RUN = "import asyncio, sys; from tests.servers.jetstream import run; asyncio.run(run(int(sys.argv[1]), sys.argv[2]))"
CID_PREFIXES = (b"\x01\x71", b"\x01\x55")  # CIDv1: dag-cbor, raw

Event = dict[str, Any]


class Jetstream:
    """A Jetstream as a process, on a port of its own. `url` is the v2 base, `v1_url` the older wire."""

    def __init__(self, folder: Path, pds_url: str) -> None:
        (port,) = free_ports(1)
        self.url, self.v1_url = f"ws://127.0.0.1:{port}/xrpc", f"ws://127.0.0.1:{port}/subscribe"
        folder.mkdir(parents=True, exist_ok=True)
        upstream = pds_url.replace("http", "ws", 1)
        command = [sys.executable, "-c", RUN, str(port), upstream]
        self.process = Process(command, log=folder / "log", cwd=ROOT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; it reads the PDS from the beginning."""
        self.process.start()

    def kill(self) -> None:
        """End it with kill -9."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it and start it on the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it for good."""
        self.process.stop()


class History:
    """Every event that the PDS told, in its order: `events[i]["seq"] == i + 1`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.arrived = asyncio.Condition()

    async def follow(self, upstream: str) -> None:
        """Read the PDS for ever, and again from where it stopped when it went away."""
        cursor = 0
        while True:
            try:
                url = f"{upstream}/xrpc/com.atproto.sync.subscribeRepos?cursor={cursor}"
                async with connect(url, max_size=None, proxy=None) as stream:
                    while True:
                        head, body = libipld.decode_dag_cbor_multi(await stream.recv(decode=False))
                        await self._keep(events_of(head, body))
                        cursor = body.get("seq", cursor)
            except (OSError, WebSocketException) as error:
                sys.stderr.write(f"upstream: {error!r}\n")
            await asyncio.sleep(0.2)

    async def _keep(self, found: Iterator[Event]) -> None:
        async with self.arrived:
            for event in found:
                self.events.append(event | {"us": time.time_ns() // 1000, "seq": len(self.events) + 1})
            self.arrived.notify_all()

    async def serve(self, client: ServerConnection) -> None:
        """Send one subscriber what it asked for, from its cursor on."""
        url = urlsplit(client.request.path if client.request else "")
        query = parse_qs(url.query)
        v2 = url.path.endswith(NSID)
        collections = query.get("collections" if v2 else "wantedCollections")
        dids = query.get("dids" if v2 else "wantedDids")
        at = self.start_at(int(query["cursor"][0]) if "cursor" in query else None, v2=v2)
        while True:
            while at < len(self.events):
                event, at = self.events[at], at + 1
                if is_wanted(event, collections, dids, query.get("kinds")):
                    await client.send(json.dumps(wire_v2(event) if v2 else wire_v1(event)))
            async with self.arrived:
                if at >= len(self.events):
                    await self.arrived.wait()

    def start_at(self, cursor: int | None, *, v2: bool) -> int:
        """Return the first index to send. A cursor is microseconds; in v2, below 1e15, a sequence number, inclusive."""
        if cursor is None:
            return len(self.events)
        if v2 and cursor < 10**15:
            return max(0, cursor - 1)
        return next((at for at, event in enumerate(self.events) if event["us"] >= cursor), len(self.events))


def events_of(head: dict[str, Any], body: dict[str, Any]) -> Iterator[Event]:
    """Yield the events of one frame of subscribeRepos."""
    kind = head.get("t", "")
    if kind == "#commit":
        raw = libipld.decode_car(body["blocks"])[1] if body["blocks"] else {}
        blocks = {_cid_text(key): value for key, value in raw.items()}
        for op in body["ops"]:
            collection, rkey = op["path"].split("/", 1)
            event = {"kind": "commit", "did": body["repo"], "rev": body["rev"]}
            event |= {"operation": op["action"], "collection": collection, "rkey": rkey}
            if op["action"] != "delete":
                cid = _cid_text(op["cid"])
                event |= {"cid": cid, "record": _to_json(blocks.get(cid))}
            yield event
    elif kind in ("#identity", "#account"):
        yield {"kind": kind[1:], "did": body["did"], kind[1:]: _to_json(body)}


def _cid_text(cid: Any) -> str:
    return cid if isinstance(cid, str) else libipld.encode_cid(cid)


def _to_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_json(inner) for inner in value]
    if isinstance(value, bytes):
        is_link = len(value) == 36 and value[:2] in CID_PREFIXES
        return {"$link": _cid_text(value)} if is_link else {"$bytes": base64.b64encode(value).decode().rstrip("=")}
    return value


def is_wanted(event: Event, collections: list[str] | None, dids: list[str] | None, kinds: list[str] | None) -> bool:
    """Tell whether a subscriber with these filters gets the event. Only commits have a collection."""
    if (kinds and event["kind"] not in kinds) or (dids and event["did"] not in dids):
        return False
    if event["kind"] != "commit" or not collections:
        return True
    name = event["collection"]
    return any(name.startswith(one[:-1]) if one.endswith(".*") else name == one for one in collections)


def wire_v1(event: Event) -> Event:
    """Return the event as the older wire writes it."""
    kind = event["kind"]
    keys = ("rev", "operation", "collection", "rkey", "record", "cid")
    inner = {key: event[key] for key in keys if key in event} if kind == "commit" else event[kind]
    return {"did": event["did"], "time_us": event["us"], "kind": kind, kind: inner}


def wire_v2(event: Event) -> Event:
    """Return the event as the lexicon's wire writes it."""
    moment = datetime.fromtimestamp(event["us"] / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    rest = {key: value for key, value in event.items() if key not in ("us", "kind")}
    payload = {"$type": f"{NSID}#{event['kind']}", "time": moment, "witnessedAt": moment, **rest}
    return {"$type": "message", "payload": payload}


async def run(port: int, upstream: str) -> None:
    """Serve until the process is ended."""
    history = History()
    pick = {"subprotocols": ["xrpc.v1.json"], "select_subprotocol": lambda _, offered: offered[0] if offered else None}
    async with serve(history.serve, "127.0.0.1", port, **pick):
        sys.stdout.write(json.dumps({"ready": True}) + "\n")
        sys.stdout.flush()
        await history.follow(upstream)
