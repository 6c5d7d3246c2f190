"""Acts: what a person does from a page. Each checks the role itself, then calls what the command line calls too."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dashboards.desk_state import DeskClock, Here, limits_by_network
from dashboards.people import APPROVERS, PAUSERS
from shareasm.errors import NotAllowed, PlanError
from shareasm.model import Campaign, Delivery, Switch
from shareasm.plan import sign_off
from shareasm.plan.sign_off import SignedOff

SCOPES = ("all", "campaign", "network", "account", "language")


def approve(here: Here, campaign: Campaign, posts: Sequence[str], *, by: str) -> SignedOff:
    """Approve these posts, as `shareasm plan approve` does. Raise NotAllowed for who may not."""
    _role(here, by, APPROVERS, "approve")
    limits = limits_by_network(here.store, here.desk)
    unread = sorted(set(here.desk.networks.values()) - limits.keys())
    if unread:
        raise PlanError(
            f"Nobody has read yet what {', '.join(unread)} accepts.",
            "Start the worker with `shareasm up`: it asks each network once.",
        )
    return sign_off.approve(here.store, here.desk, campaign.folder, posts, by=by, limits=limits, now=here.now)


def pause(here: Here, scope: str, key: str, *, by: str, reason: str) -> None:
    """Stop every send of this scope that has not begun. Anyone from author upwards may."""
    role = _role(here, by, PAUSERS, "stop the desk")
    here.store.switches.pause(scope, key, by=by, role=role, reason=reason or "no reason given", at=here.now)


def resume(here: Here, switch: Switch, *, by: str, reason: str) -> None:
    """Lift a pause. What fell into it stays until a person releases it, one by one."""
    role = _role(here, by, APPROVERS, "lift a pause")
    why = reason or "no reason given"
    here.store.switches.resume(switch.scope, switch.key, by=by, role=role, reason=why, at=here.now)


def send_now(here: Here, campaign: Campaign, delivery: Delivery, *, by: str, why: str) -> None:
    """Release one delivery: it goes out as soon as the worker sees it, within the campaign's own patience."""
    role = _role(here, by, APPROVERS, "release a delivery")
    here.store.queue.send_now(
        delivery.id, by=by, role=role, why=why, clock=DeskClock(here.now), last=campaign.not_after
    )


def cancel(here: Here, delivery: Delivery, *, by: str, why: str) -> None:
    """Take one delivery out of the plan."""
    role = _role(here, by, APPROVERS, "cancel a delivery")
    here.store.queue.cancel(delivery.id, by=by, role=role, why=why, clock=DeskClock(here.now))


def _role(here: Here, person: str, allowed: Collection[str], what: str) -> str:
    """Return the person's role. Raise NotAllowed, with who may, when it does not suffice."""
    if not person:
        raise NotAllowed("Nobody has said who does this.", "Say who you are first.")
    role = sign_off.role_for(here.desk, person)
    if role not in allowed:
        who_may = "an author or approver" if "author" in allowed else "an approver"
        raise NotAllowed(f"{person} is {role} and may not {what}.", f"Ask {who_may}.")
    return role
