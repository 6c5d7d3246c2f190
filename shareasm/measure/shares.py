"""Shares: how the conversation is spread over networks and languages."""

from __future__ import annotations

from typing import Any

from shareasm.measure.reading import SPOKEN, Reading, measure
from shareasm.measure.words import UNSURE, language_name, network_name, share


@measure(version=1, unit="posts")
def by_network(reading: Reading) -> list[dict[str, Any]] | None:
    """Spoken posts, reposts and contributors of each network, and its share of the spoken posts.

    A network that nobody could read yet has unknown numbers, not 0. Our own posts are in the numbers.
    """
    if not reading.is_known:
        return None
    total = reading.posts(SPOKEN)
    return [_network_row(reading, network, total) for network in reading.networks]


def _network_row(reading: Reading, network: str, total: int) -> dict[str, Any]:
    if not reading.knows(network):
        return dict.fromkeys(("spoken", "reposts", "share", "contributors", "ours")) | {
            "network": network, "name": network_name(network),
        }  # fmt: skip
    people = [row for row in reading.reach if row.network == network]
    spoken = reading.posts(SPOKEN, network)
    return {
        "network": network,
        "name": network_name(network),
        "spoken": spoken,
        "reposts": reading.posts({"repost"}, network),
        "share": share(spoken, total),
        "contributors": sum(row.authors for row in people),
        "ours": sum(row.authors for row in people if row.ours),
    }


@measure(version=1, unit="posts")
def by_language(reading: Reading) -> list[dict[str, Any]] | None:
    """Spoken posts by language, most first, and the share of each.

    The language is the network's tag where it agrees with what the text shows, or where the text is shorter than 20
    letters; else what the text shows. Where that is not clear it is unsure, which is always a row of its own.
    """
    if not reading.is_known:
        return None
    spoken: dict[str, int] = {}
    for row in reading.shares:
        if row.kind in SPOKEN:
            code = row.language if row.language not in {"", "und"} else UNSURE
            spoken[code] = spoken.get(code, 0) + row.posts
    total = sum(spoken.values())
    ranked = sorted(spoken.items(), key=lambda item: (item[0] == UNSURE, -item[1], item[0]))
    return [
        {"language": code, "name": language_name(code), "spoken": posts, "share": share(posts, total)}
        for code, posts in ranked
    ]
