"""Bluesky: how the desk posts on a PDS, and how it listens to a Jetstream or a firehose.

Posting is `putRecord` with `"swapRecord": null` under a key that the delivery fixes: “make it if nothing stands there”.
The same wire again changes nothing, another one under the same key is refused, and a lost answer is cleared by reading
the record and comparing its CID with the one we computed ourselves.

    account    our login: prepare, compose, send, look up, delete       login     the session behind it
    record     what a post says there, and its CID                      pictures  small enough, without metadata
    source     a stream, page by page                                   page      the rows of one step
    wires      Jetstream and firehose as events of one shape            seen      a stranger's record as a row of ours
    xrpc       one request with one deadline

Nine files behind one door, where other networks need one: two binary streams and no library that could be trusted
with a deadline. Nothing outside imports anything but what stands in this file.
"""

from __future__ import annotations

from shareasm.model import Limits
from shareasm.networks import Account, Setting, Source

NETWORK = "bluesky"
LIMITS = Limits(
    count="graphemes",
    text=300,
    bytes=3_000,
    pictures=4,
    picture_bytes=1_000_000,
    shrinks=True,
    warnings=False,
    alt_text=2_000,
    languages=3,
    cards=True,
)
"""`picture_bytes` is what we shrink to: servers take 2,000,000, those before 2026-04-30 one million."""

POST, REPOST = "app.bsky.feed.post", "app.bsky.feed.repost"
PUBLIC_SERVER = "https://bsky.social"
PUBLIC_JETSTREAM = "wss://jetstream.us-east.bsky.network/xrpc"


def open_account(setting: Setting) -> Account:
    """Return our login on a PDS (or on bsky.social), without asking it anything yet."""
    from shareasm.networks.bluesky.account import BlueskyAccount  # the limits are asked for without the machinery

    return BlueskyAccount(setting)


def open_source(setting: Setting) -> Source:
    """Return a Jetstream, or with `protocol = "firehose"` the firehose of a PDS or relay, without connecting yet."""
    from shareasm.networks.bluesky.source import BlueskySource

    return BlueskySource(setting)
