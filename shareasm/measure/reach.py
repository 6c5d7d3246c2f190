"""Reach: who saw it, who acted, who could have seen it, and how much hangs on a few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shareasm.measure.reading import CARRIED, SPOKEN, Figure, Reading, measure
from shareasm.measure.words import counted, in_order, network_name, share, two_digits
from shareasm.store.figures import ReachRow


@measure(version=1, unit="four lines, never one number")
def reach(reading: Reading) -> Figure:
    """Four lines, never one number.

    Seen: the views that networks gave, over distinct posts; views, not accounts. Acted: the accounts, not ours, that
    we saw post, reply, quote or repost, so it is at least so many. Could have seen: the accounts that follow a
    contributor. They follow several, so on each network they are at least as many as the largest contributor has and
    at most the sum; the networks are added as accounts, and the estimate has two significant digits. Concentration:
    which share of all these followers the largest one and the largest five have, and the accounts that only reposted,
    and what is left without the largest.
    """
    if not reading.is_known:
        return Figure(None)
    could = _could_have_seen(reading.reach)
    accounts, of_accounts = (could["accounts"], could["of_accounts"])
    return Figure(
        {
            "seen": _seen(reading),
            "acted": {"at_least": sum(row.authors for row in reading.reach if not row.ours)},
            "could_have_seen": could,
            "concentration": _concentration(reading),
        },
        f"followers of {accounts:,} of {counted(of_accounts, 'account')} known",
    )


@dataclass(slots=True)
class _Followers:
    """What is known of the followers of one network's contributors."""

    largest: int = 0
    total: int = 0
    known: int = 0
    authors: int = 0
    of_only_reposting: int = 0


def _seen(reading: Reading) -> dict[str, Any]:
    rows = [row for row in reading.shares if row.kind in SPOKEN | CARRIED]
    posts = sum(row.n_views for row in rows)
    silent = [n for n in reading.networks if not any(row.n_views for row in rows if row.network == n)]
    return {
        "views": sum(row.views for row in rows) if posts else None,
        "posts": posts,
        "of_posts": sum(row.posts for row in rows),
        "given_by_none_of": [network_name(network) for network in silent],
    }


def _by_network(rows: Sequence[ReachRow]) -> dict[str, _Followers]:
    networks: dict[str, _Followers] = defaultdict(_Followers)
    for row in rows:
        followers = networks[row.network]
        followers.largest = max(followers.largest, row.followers_max)
        followers.total += row.followers_sum
        followers.known += row.followers_known
        followers.authors += row.authors
        followers.of_only_reposting += row.followers_only_reposting
    return {network: networks[network] for network in in_order(networks)}


def _could_have_seen(rows: Sequence[ReachRow]) -> dict[str, Any]:
    networks = _by_network(rows)
    lines = [
        {"network": network, **_interval(f.known, f.largest, f.total), "accounts": f.known, "of_accounts": f.authors}
        for network, f in networks.items()
    ]
    known = sum(f.known for f in networks.values())
    at_least, at_most = sum(f.largest for f in networks.values()), sum(f.total for f in networks.values())
    of_accounts = sum(f.authors for f in networks.values())
    return {**_interval(known, at_least, at_most), "accounts": known, "of_accounts": of_accounts, "networks": lines}


def _interval(known: int, at_least: int, at_most: int) -> dict[str, Any]:
    """Return the exact bounds and the estimate; all None when no account's followers are known."""
    if not known:
        return {"at_least": None, "at_most": None, "estimate": None}
    return {"at_least": at_least, "at_most": at_most, "estimate": [two_digits(at_least), two_digits(at_most)]}


def _concentration(reading: Reading) -> dict[str, Any]:
    networks = _by_network(reading.reach)
    total = sum(f.total for f in networks.values())
    largest = reading.store.figures.largest(reading.id, limit=5) if total else []
    return {
        "top_1": share(largest[0][1], total) if largest else None,
        "top_5": share(sum(followers for _, followers in largest), total) if largest else None,
        "only_reposting": share(sum(f.of_only_reposting for f in networks.values()), total),
        "without_largest": _without_largest(reading, networks, largest),
    }


def _without_largest(
    reading: Reading, networks: dict[str, _Followers], largest: Sequence[tuple[str, int]]
) -> dict[str, Any]:
    """Return the interval without the one contributor that most accounts follow."""
    if not largest:
        return _interval(0, 0, 0)
    network, followers = largest[0]
    second = _second_largest(reading, networks[network], largest)
    others = [f for name, f in networks.items() if name != network]
    known = sum(f.known for f in networks.values()) - 1
    at_least = second + sum(f.largest for f in others)
    at_most = sum(f.total for f in networks.values()) - followers
    return _interval(known, at_least, at_most)


def _second_largest(reading: Reading, followers: _Followers, largest: Sequence[tuple[str, int]]) -> int:
    """Return the second on the network of the largest: mostly it stands among the five that were read already."""
    if followers.known < 2:
        return 0
    network = largest[0][0]
    there = [count for name, count in largest if name == network]
    if len(there) < 2:
        there = [count for _, count in reading.store.figures.largest(reading.id, limit=2, network=network)]
    return there[1]
