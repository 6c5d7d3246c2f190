"""Acts: what a person does from a page: the same functions as on the command line, which check the role themselves."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.desk_state import DeskClock, Here, limits_by_network
from shareasm.errors import NotAllowed, PlanError
from shareasm.model import Campaign, Delivery, Switch
from shareasm.plan import sign_off
from shareasm.plan.sign_off import SignedOff


def approve(here: Here, campaign: Campaign, posts: Sequence[str], *, by: str) -> SignedOff:
    """Approve these posts, as `shareasm plan approve` does. Raise NotAllowed for who may not."""
    _role(here, by)
    limits = limits_by_network(here.store, here.desk)
    chosen = [one.post for one in here.store.posts.all(campaign.folder) if one.post.id in posts]
    asked = {here.desk.networks.get(account, "") for post in chosen for account in post.accounts} - {""}
    if unread := sorted(asked - limits.keys()):
        raise PlanError(
            f"Nobody has read yet what {', '.join(unread)} accepts.",
            "Start the worker with `shareasm up`: it asks each network once.",
        )
    return sign_off.approve(here.store, here.desk, campaign.folder, posts, by=by, limits=limits, now=here.now)


def pause(here: Here, scope: str, key: str, *, by: str, reason: str) -> None:
    """Stop every send of this scope that has not begun. Anyone from author upwards may."""
    role = _role(here, by)
    here.store.switches.pause(scope, key, by=by, role=role, reason=reason or "no reason given", at=here.now)


def resume(here: Here, switch: Switch, *, by: str, reason: str) -> None:
    """Lift a pause. What fell into it stays until a person releases it, one by one."""
    role = _role(here, by)
    why = reason or "no reason given"
    here.store.switches.resume(switch.scope, switch.key, by=by, role=role, reason=why, at=here.now)


def send_now(here: Here, campaign: Campaign, delivery: Delivery, *, by: str, why: str) -> None:
    """Release one delivery: it goes out as soon as the worker sees it, within the campaign's own patience."""
    role = _role(here, by)
    here.store.queue.send_now(
        delivery.id, by=by, role=role, why=why, clock=DeskClock(here.now), last=campaign.not_after
    )


def cancel(here: Here, delivery: Delivery, *, by: str, why: str) -> None:
    """Take one delivery out of the plan."""
    role = _role(here, by)
    here.store.queue.cancel(delivery.id, by=by, role=role, why=why, clock=DeskClock(here.now))


def _role(here: Here, person: str) -> str:
    """Return the person's role. Raise NotAllowed for nobody, and for somebody whom desk.toml does not name."""
    if not person:
        raise NotAllowed("Nobody has said who does this.", "Say who you are first.")
    return sign_off.role_for(here.desk, person)
