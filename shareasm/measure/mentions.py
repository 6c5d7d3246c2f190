"""Mentions: how many posts stand under the campaign's hashtags."""

from __future__ import annotations

from shareasm.measure.reading import COUNTED, SPOKEN, Figure, Reading, measure
from shareasm.measure.words import network_name


@measure(version=1, unit="posts")
def mentions(reading: Reading) -> Figure:
    """Public posts under the campaign's hashtags, anyone's, by kind.

    Spoken posts are originals, replies and quotes; reposts only relay. The kinds exclude each other: a post is a
    repost, else a reply, else a quote, else an original. Our own posts are counted. A post that its author deleted
    stays in the totals. Conversation (answers without the hashtag) stands apart and is in no total.
    """
    if not reading.is_known:
        return Figure(None)
    kinds = {kind: reading.posts({kind}) for kind in ("original", "reply", "quote")}
    return Figure(
        {
            "total": reading.posts(COUNTED),
            "spoken": reading.posts(SPOKEN),
            "reposts": reading.posts({"repost"}),
            **kinds,
            "conversation": reading.posts({"conversation"}),
            "deleted": sum(row.deleted for row in reading.shares if row.kind in COUNTED),
        },
        _reposts_unseen(reading),
    )


def _reposts_unseen(reading: Reading) -> str:
    """Say where a network reports more reposts of the spoken posts than we saw: X search gives none."""
    said = []
    for network in reading.networks:
        reported = sum(r.reposts for r in reading.shares if r.network == network and r.kind in {*SPOKEN, "carried"})
        seen = reading.posts({"repost"}, network)
        if seen < reported:
            said.append(f"{network_name(network)}: {seen:,} of {reported:,} reposts seen")
    return ", ".join(said)
