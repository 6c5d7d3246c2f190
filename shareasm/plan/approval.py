"""Approval: what exactly each delivery will say, fixed before the day."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

from shareasm.errors import PlanError
from shareasm.model import AccountName, Campaign, DeliveryId, Frozen, Limits, Post

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TID = "234567abcdefghijklmnopqrstuvwxyz"
_MILLISECOND = timedelta(milliseconds=1)


def delivery_id(campaign: Campaign, post: Post, account: str, part: int) -> DeliveryId:
    """Return the id of one part of a post on one account, the same whenever it is asked."""
    return DeliveryId(f"{campaign.folder}/{post.id}/{account}/{part}")


def texts_for(post: Post, network: str, limits: Limits) -> tuple[str, ...]:
    """Return the parts as this network gets them: the link ends part 1 where the network makes no card of it.

    Beside pictures there is no room for a card on any network, so there too it stands in the text.
    """
    first, *rest = post.parts_for(network) or ("",)
    if post.link and not has_card(post, limits) and post.link not in first:
        first = f"{first}\n{post.link}".lstrip("\n")
    return (first, *rest)


def has_card(post: Post, limits: Limits) -> bool:
    """Return True when the network shows the post's link as a card."""
    return bool(post.link) and limits.cards and not post.media


def freeze(
    post: Post,
    campaign: Campaign,
    accounts: Mapping[str, str],
    limits: Mapping[str, Limits],
    delivery_id_of: Callable[[Campaign, Post, str, int], DeliveryId] = delivery_id,
    *,
    taken: Collection[tuple[str, datetime]] = (),
) -> list[tuple[DeliveryId, Frozen]]:
    """Return what an approval fixes: one record per account and part, in the order in which they go out. Pure.

    `accounts` gives each account's network. `taken` are the (account, created_at) that other posts have: two posts of
    one account with one `created_at` lost one in a feed (atproto#2199), so that moment is moved on by milliseconds.
    Raise PlanError for an account that the desk does not have, no text, or a picture that nobody could read.
    """
    unread = [media.file for media in post.media if not media.digest]
    if unread:
        raise PlanError(f"{post.id}: media/{unread[0]} could not be read.", "Put the picture there and sync.")
    frozen: list[tuple[DeliveryId, Frozen]] = []
    for account in post.accounts:
        network = accounts.get(account, "")
        if network not in limits or not post.parts_for(network):
            raise PlanError(f"{post.id} has nothing to say on {account}.", "Run `shareasm check`.")
        frozen += _thread(post, campaign, AccountName(account), network, limits[network], delivery_id_of, taken)
    return frozen


def record_key(due_at: datetime, delivery: str) -> str:
    """Return a key of 13 signs that depends on the due time and the delivery's id alone.

    It is a TID, Bluesky's kind of record key: 53 bits of microseconds, of which the last 20 come from the id's hash,
    then 10 more bits of it. Whoever sends the delivery again uses the same key, and so makes no second post.
    """
    digest = int.from_bytes(hashlib.sha256(delivery.encode()).digest()[:8], "big")
    due_us = (due_at - _EPOCH) // timedelta(microseconds=1)
    moment = (due_us & ~0xFFFFF) | ((digest >> 10) & 0xFFFFF)
    value = ((moment & ((1 << 53) - 1)) << 10) | (digest & 1023)
    return "".join(_TID[(value >> shift) & 31] for shift in range(60, -1, -5))


def _thread(
    post: Post,
    campaign: Campaign,
    account: AccountName,
    network: str,
    limits: Limits,
    delivery_id_of: Callable[[Campaign, Post, str, int], DeliveryId],
    taken: Collection[tuple[str, datetime]],
) -> list[tuple[DeliveryId, Frozen]]:
    texts = texts_for(post, network, limits)
    moment = post.due_at + _own_milliseconds(delivery_id_of(campaign, post, account, 1))
    parts: list[tuple[DeliveryId, Frozen]] = []
    for part, text in enumerate(texts, 1):
        while (account, moment) in taken:
            moment += _MILLISECOND
        delivery = delivery_id_of(campaign, post, account, part)
        record = Frozen(
            network=network,
            account=account,
            text=text,
            language=post.language,
            part=part,
            of_parts=len(texts),
            created_at=moment,
            key=record_key(post.due_at, delivery),
            link=post.link if part == 1 and has_card(post, limits) else "",
            media=post.media if part == 1 else (),
            warning=post.warning,
        )
        parts.append((delivery, record))
        moment += _MILLISECOND
    return parts


def _own_milliseconds(delivery: str) -> timedelta:
    """Return under 0.9 s, different for nearly every post; what still meets another is moved by `taken`."""
    return int.from_bytes(hashlib.sha256(delivery.encode()).digest()[8:12], "big") % 900 * _MILLISECOND
