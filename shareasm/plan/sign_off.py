"""Sign-off: a person approves posts, and what each delivery will say is fixed from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shareasm.desk import Desk, role_of
from shareasm.errors import DeskError, NotAllowed, PlanError, StateError
from shareasm.model import Campaign, DeliveryId, Limits, Post, PostState
from shareasm.plan.approval import delivery_id, freeze
from shareasm.store import Store
from shareasm.store.posts import Approval, PlannedPost


@dataclass(slots=True)
class SignedOff:
    """What an approval made: deliveries by post id, and sentences about the posts that were left out."""

    deliveries: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def approve(
    store: Store,
    desk: Desk,
    campaign: str,
    posts: Sequence[str] | None,
    *,
    by: str,
    limits: Mapping[str, Limits],
    now: datetime,
) -> SignedOff:
    """Approve these posts (None: all that wait for approval) as one person, each in its own transaction.

    A post is named by its own id, its message's id, or the id of one of its deliveries. Raise NotAllowed when the
    person may not approve; a post that cannot be approved is left out with the reason, and the others go on.
    """
    role = role_for(desk, by)
    found = store.campaigns.get(campaign)
    campaign_id = store.campaigns.id_of(campaign)
    planned = store.posts.all(found.folder)
    chosen = _waiting(planned) if posts is None else _named(planned, posts, found)
    taken = {(d.account, d.frozen.created_at) for d in store.queue.all()}
    done = SignedOff()
    for one in chosen:
        try:
            approvals = _approvals(one, found, desk, limits, taken)
            made = store.posts.approve(campaign_id, one.post.id, one.revision_hash, approvals, by=by, role=role, at=now)
        except NotAllowed:
            raise
        except DeskError as error:
            done.left_out.append(str(error))
            continue
        taken |= {(approval.frozen.account, approval.frozen.created_at) for approval in approvals}
        done.deliveries[one.post.id] = made
    return done


def role_for(desk: Desk, person: str) -> str:
    """Return the person's role. Raise NotAllowed for somebody whom desk.toml does not name."""
    role = role_of(desk, person)
    if role is None:
        raise NotAllowed(f"{person} is not named under [people] in desk.toml.", "An admin can add them.")
    return role


def _approvals(
    one: PlannedPost,
    campaign: Campaign,
    desk: Desk,
    limits: Mapping[str, Limits],
    taken: set[tuple[str, datetime]],
) -> list[Approval]:
    def of_revision(c: Campaign, post: Post, account: str, part: int) -> DeliveryId:
        first = delivery_id(c, post, account, part)  # a later revision is another delivery, with another key
        return first if one.revision == 1 else DeliveryId(f"{first}~{one.revision}")

    frozen = freeze(one.post, campaign, desk.networks, limits, of_revision, taken=taken)
    return [Approval(delivery, record) for delivery, record in frozen]


def _waiting(planned: Sequence[PlannedPost]) -> list[PlannedPost]:
    return [one for one in planned if one.state is PostState.IN_REVIEW]


def _named(planned: Sequence[PlannedPost], names: Sequence[str], campaign: Campaign) -> list[PlannedPost]:
    chosen: dict[str, PlannedPost] = {}
    for name in names:
        asked = name.removeprefix(f"{campaign.folder}/").split("/")[0]
        hits = [one for one in planned if asked in {one.post.id, one.post.message}]
        if not hits:
            raise PlanError(f"The plan has no post “{name}”.", "See `shareasm plan list`.")
        ready = [one for one in hits if one.state is PostState.IN_REVIEW] or hits
        chosen |= {one.post.id: one for one in ready}
    if not chosen:
        raise StateError("No post waits for approval.", "See `shareasm plan list`.")
    return list(chosen.values())
