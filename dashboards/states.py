"""States: the word, icon and colour of each, and where a post stands as a whole."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from shareasm.model import Delivery, DeliveryState, PostState
from shareasm.store.posts import PlannedPost

Kind = Literal["being written", "will go out", "held", "going", "out", "asks for a person", "closed"]
Colour = Literal["gray", "yellow", "green", "red"]

S = DeliveryState


@dataclass(frozen=True, slots=True)
class Shown:
    """How a state is shown. The word carries it; icon and colour only help."""

    kind: Kind
    word: str
    icon: str
    colour: Colour
    sentence: str = ""
    """What a person needs to know beside the word."""


DRAFT = Shown("being written", "Draft", ":material/edit_note:", "gray", "It is not ready, or has a problem to mend.")
WITHDRAWN = Shown("closed", "Withdrawn", ":material/undo:", "gray", "It will not go out.")

POST_STATES: dict[PostState, Shown] = {
    PostState.DRAFT: DRAFT,
    PostState.IN_REVIEW: Shown(
        "being written", "Needs approval", ":material/rate_review:", "yellow", "It goes out only when it is approved."
    ),
    PostState.APPROVED: Shown("will go out", "Approved", ":material/schedule:", "green", "It waits for its time."),
    PostState.WITHDRAWN: WITHDRAWN,
}

DELIVERY_STATES: dict[DeliveryState, Shown] = {
    S.SCHEDULED: Shown("will go out", "Scheduled", ":material/schedule:", "green", "It waits for its time."),
    S.PAUSED: Shown(
        "held", "Paused", ":material/pause_circle:", "yellow", "It fell due while a pause was on. It waits for you."
    ),
    S.BLOCKED: Shown("held", "Blocked", ":material/link_off:", "yellow", "What it follows is not out."),
    S.CLAIMED: Shown("going", "Going out", ":material/hourglass_top:", "gray", "The worker has it in hand."),
    S.SENDING: Shown("going", "Sending", ":material/send:", "gray", "The network has not answered yet."),
    S.UNCONFIRMED: Shown(
        "going",
        "Sent, answer lost",
        ":material/manage_search:",
        "gray",
        "Sent, answer lost. Looking it up; it will not be sent twice.",
    ),
    S.PUBLISHED: Shown("out", "Out", ":material/check:", "green"),
    S.NEEDS_HUMAN: Shown(
        "asks for a person", "Needs you", ":material/front_hand:", "red", "The desk cannot know. Look, then decide."
    ),
    S.FAILED: Shown(
        "asks for a person",
        "Failed",
        ":material/error:",
        "red",
        "The network refused it. Change the post, or let it go.",
    ),
    S.MISSED: Shown(
        "asks for a person", "Missed", ":material/event_busy:", "red", "Its last moment passed before it could be sent."
    ),
    S.CANCELLED: Shown("closed", "Cancelled", ":material/cancel:", "gray", "It will not go out."),
}

PARTLY_OUT = Shown("out", "Partly out", ":material/done_all:", "green", "Some accounts or parts are still to come.")
MISSING = Shown("being written", "Missing", ":material/remove:", "gray", "Nobody has written this language.")
PROBLEM = Shown("being written", "Problem", ":material/report:", "red", "It cannot be approved as it is.")

DECIDABLE: tuple[DeliveryState, ...] = (S.NEEDS_HUMAN, S.FAILED, S.MISSED, S.PAUSED, S.BLOCKED)
"""What waits for a person's word, the most pressing first."""

RELEASABLE = frozenset({S.PAUSED, S.MISSED, S.BLOCKED, S.NEEDS_HUMAN})
"""What may still go out when a person says so; a failed one has to be changed first."""

_FIRST_SEEN = (*DECIDABLE, S.UNCONFIRMED, S.SENDING, S.CLAIMED)


def delivery_shown(delivery: Delivery) -> Shown:
    """Return how one delivery is shown."""
    return DELIVERY_STATES[delivery.state]


def post_shown(planned: PlannedPost, deliveries: Collection[Delivery]) -> Shown:
    """Return how a post is shown as a whole: its most pressing delivery, else what its own state says."""
    if planned.state is PostState.DRAFT and _has_error(planned):
        return PROBLEM
    if planned.state is not PostState.APPROVED:
        return POST_STATES[planned.state]
    live = {delivery.state for delivery in deliveries if delivery.state is not S.CANCELLED}
    pressing = next((state for state in _FIRST_SEEN if state in live), None)
    if pressing is not None:
        return DELIVERY_STATES[pressing]
    if live == {S.PUBLISHED}:
        return DELIVERY_STATES[S.PUBLISHED]
    if S.PUBLISHED in live:
        return PARTLY_OUT
    if not live and deliveries:
        return DELIVERY_STATES[S.CANCELLED]
    return POST_STATES[PostState.APPROVED]


def by_post(deliveries: Sequence[Delivery]) -> dict[str, list[Delivery]]:
    """Return the deliveries of each post."""
    found: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        found.setdefault(delivery.post, []).append(delivery)
    return found


def waiting_for_a_person(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return what waits for a person's word, the most pressing first, then by time."""
    mine = [delivery for delivery in deliveries if delivery.state in DECIDABLE]
    return sorted(mine, key=lambda delivery: (DECIDABLE.index(delivery.state), delivery.due_at, delivery.id))


def _has_error(planned: PlannedPost) -> bool:
    return any(problem.level == "error" for problem in planned.problems)
