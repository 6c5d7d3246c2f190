"""X: how the desk posts there, and how it listens to X's recent search.

X keeps no key of ours, so a post is sent by one request and never again by itself: after a lost answer the desk looks
at our own timeline, and where it finds nothing, a person decides. Every post and every post read costs money.

    account    our login: prepare, compose, send, look up, delete, price      login   the keys; tokens that rotate
    media      one picture in pieces, with its alt text                       own     is this post of our timeline ours?
    source     recent search, checked against X's own counts                  seen    a record of X as a row of ours
    line       one request through tweepy, over when its time is over

Seven files behind one door, because tweepy has no deadline, no v2 upload and no refresh: that part is ours.
"""

from __future__ import annotations

from shareasm.model import Limits
from shareasm.networks import Account, Setting, Source

NETWORK = "x"
LIMITS = Limits(
    count="weighted", text=280, link_weight=23, pictures=4, picture_bytes=5_000_000, alt_text=1_000, warnings=False
)


def open_account(setting: Setting) -> Account:
    """Return our login on X, without asking it anything yet."""
    from shareasm.networks.x.account import XAccount  # the limits are asked for without the machinery

    return XAccount(setting)


def open_source(setting: Setting) -> Source:
    """Return X's recent search, without asking it anything yet. Raise ConfigError where there is no bearer token."""
    from shareasm.networks.x.source import XSource

    return XSource(setting)
