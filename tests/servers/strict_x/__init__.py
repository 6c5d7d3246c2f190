"""Strict X: a server on loopback that behaves as X's API v2 is documented and was measured, and that counts.

Written from what is known of X, never from `shareasm.networks.x`; X's own SDK and tweepy drive it too, in
`tests/test_strict_x.py`. It keeps accounts, posts, media, tokens and money, refuses what X refuses, and can be told to
fail. `billed` and `standing()` are the truth that tests compare with.

    state    who asks changes it here       door      HTTP, addresses, faults        words   refusals, prices, texts
    things   what is kept                   request   parameters, fields, bounds     search  the query language

In this process: `with StrictX("desk", "other") as x`. As a process: `python -m tests.servers.strict_x`, which prints a
line of JSON with its address and secrets, and obeys `POST /strict/say`, `fail`, `move`, `balance` and `state`.
"""

from tests.servers.strict_x.state import StrictX
from tests.servers.strict_x.things import Account, Bill, Post, Upload
from tests.servers.strict_x.words import DUPLICATE, QUOTE_GATE, REPLY_GATE

__all__ = ["DUPLICATE", "QUOTE_GATE", "REPLY_GATE", "Account", "Bill", "Post", "StrictX", "Upload"]
