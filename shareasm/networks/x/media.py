"""Media: one picture to X in pieces, with its alt text, until X says that it is ready."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from shareasm.errors import Refused, Unreachable
from shareasm.model import Clock, Media
from shareasm.networks.x import LIMITS, NETWORK
from shareasm.networks.x.line import Answer, Server

PIECE_BYTES = 1_000_000
SHORTEST_WAIT, LONGEST_WAIT = 0.2, 10.0
ROUTE = "/2/media/upload"

Ask = Callable[..., Answer]
"""Makes one request as us: `ask(verb, route, json=…, params=…)`, or a piece of a picture with `fields` and `piece`."""


def upload(
    ask: Ask, server: Server, media: Media, content: bytes, *, end: float, wait: Callable[[float], object] = time.sleep
) -> Mapping[str, object]:
    """Upload one picture with its alt text; return its id and when X forgets it. What nobody names X forgets.

    Raise Refused when X takes neither the picture nor its alt text, and NetworkError otherwise.
    """
    if len(content) > LIMITS.picture_bytes and media.mime != "image/gif":
        words = f"{media.file} has {len(content):,} bytes; X takes {LIMITS.picture_bytes:,}."
        raise Refused(words, "Make it smaller.", network=NETWORK, account=server.account)
    category = "tweet_gif" if media.mime == "image/gif" else "tweet_image"
    begin = {"media_type": media.mime, "total_bytes": len(content), "media_category": category}
    answer = _held(server, ask("POST", f"{ROUTE}/initialize", json=begin))
    native_id = _id_of(server, answer)
    for index, piece in enumerate(_pieces(content)):
        _held(server, ask("POST", f"{ROUTE}/{native_id}/append", fields={"segment_index": str(index)}, piece=piece))
    answer = _held(server, ask("POST", f"{ROUTE}/{native_id}/finalize"))
    last = _ready(ask, server, native_id, answer, end=end, wait=wait, name=media.file)
    if media.alt:
        alt = {"id": native_id, "metadata": {"alt_text": {"text": media.alt}}}
        _held(server, ask("POST", "/2/media/metadata", json=alt))
    return {"media_id": native_id, "expires_at": _expires_at(last, answer, server.clock)}


def _ready(
    ask: Ask, server: Server, native_id: str, answer: Answer, *, end: float, wait: Callable[[float], object], name: str
) -> Answer:
    """Ask again until X has looked at the picture. Return its last answer."""
    while (info := answer.data.get("processing_info")) is not None and isinstance(info, dict):
        state = info.get("state")
        if state == "succeeded":
            break
        if state == "failed":
            raise _failed(server, name, info)
        seconds = info.get("check_after_secs")
        pause = float(seconds) if isinstance(seconds, int | float) else 1.0
        pause = min(max(pause, SHORTEST_WAIT), LONGEST_WAIT)
        if time.monotonic() + pause >= end:
            words = f"X was not done with {name} in time."
            raise Unreachable(words, "The desk tries again.", network=NETWORK, account=server.account)
        wait(pause)
        answer = _held(server, ask("GET", ROUTE, params={"command": "STATUS", "media_id": native_id}))
    return answer


def _failed(server: Server, name: str, info: Mapping[str, Any]) -> Refused:
    error = info.get("error")
    told = error.get("message") or error.get("name") if isinstance(error, dict) else None
    words = f"X cannot use {name}: {told or 'no reason given'}."
    return Refused(words, "Save the picture again as PNG or JPEG.", network=NETWORK, account=server.account)


def _held(server: Server, answer: Answer) -> Answer:
    server.hold(answer)
    return answer


def _id_of(server: Server, answer: Answer) -> str:
    native_id = answer.text("data", "id")
    if not native_id.isalnum():
        raise server.unreadable(answer)
    return native_id


def _pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def _expires_at(last: Answer, first: Answer, clock: Clock) -> str | None:
    seconds = last.data.get("expires_after_secs") or first.data.get("expires_after_secs")
    if not isinstance(seconds, int) or not 0 < seconds < 10**8:
        return None
    return (clock.now() + timedelta(seconds=seconds)).isoformat()
