"""Mastodon: how the desk posts on a server that speaks its API, and how it listens to public hashtags there.

Many such servers are not Mastodon, and what they promise differs: `instance` asks, `account` acts on it. A post goes
out with an Idempotency-Key that the delivery fixes; where the server keeps keys, the same one may be used again for
55 minutes, elsewhere the desk looks at its own posts and then asks a person.

    account    our login: prepare, compose, send, look up, delete      look_up   which of our posts is the one we sent
    library    Mastodon.py, which writes our requests                  line      one request with one deadline
    instance   what a server says about itself                         seen      a stranger's post as a row of ours
    source     the tag timelines of one server                         walk      one round up a timeline, and its cursor
    markup     HTML as words

Nothing outside imports anything but what stands in this file.
"""

from __future__ import annotations

from shareasm.model import Limits
from shareasm.networks import Account, Setting, Source

NETWORK = "mastodon"
LIMITS = Limits(
    count="characters",
    text=500,
    link_weight=23,
    pictures=4,
    picture_bytes=16_777_216,
    alt_text=1_500,
    languages=1,
    cards=False,
)
"""Mastodon's own; most servers tell theirs."""


def open_account(setting: Setting) -> Account:
    """Return our login on a server, without asking it anything yet."""
    from shareasm.networks.mastodon.account import MastodonAccount  # the limits are asked for without the machinery

    return MastodonAccount(setting)


def open_source(setting: Setting) -> Source:
    """Return the public tag timelines of a server, without asking it anything yet."""
    from shareasm.networks.mastodon.source import MastodonSource

    return MastodonSource(setting)
