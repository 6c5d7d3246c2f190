"""Sync: what the files of `scheduled_posts/` say, taken into the desk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shareasm.desk import Desk
from shareasm.errors import PlanError
from shareasm.model import Limits
from shareasm.plan.check import check_plan
from shareasm.plan.files import PLANS, CampaignPlan, campaign_folders, read_campaign
from shareasm.store import Store
from shareasm.store.posts import Sync


@dataclass(frozen=True, slots=True)
class Synced:
    """What one campaign's sync found and changed."""

    plan: CampaignPlan
    changes: Sync


def read_plan(desk: Desk, name: str, *, limits: Mapping[str, Limits], now: datetime) -> CampaignPlan:
    """Read and check a campaign's folder. Nothing is written. Raise PlanError when there is no such folder."""
    folder = _folder(desk, name)
    plan = read_campaign(folder, desk_accounts=list(desk.accounts), tz_default=desk.time_zone)
    return check_plan(plan, limits=limits, accounts=desk.networks, now=now)


def sync(store: Store, desk: Desk, name: str, *, limits: Mapping[str, Limits], now: datetime) -> Synced:
    """Take a campaign's files into the desk: good posts go in, bad ones are listed, nothing is sent a second time."""
    plan = read_plan(desk, name, limits=limits, now=now)
    campaign_id = store.campaigns.save(plan.campaign, now)
    changes = store.posts.sync(campaign_id, plan.posts, plan.of_posts, at=now, unreadable=frozenset(plan.unreadable))
    return Synced(plan, changes)


def names(desk: Desk) -> list[str]:
    """Return the names of all campaign folders of the desk."""
    return [folder.name for folder in campaign_folders(desk.folder)]


def _folder(desk: Desk, name: str) -> Path:
    folder = desk.folder / PLANS / Path(name).name
    if (folder / "campaign.toml").is_file():
        return folder
    known = ", ".join(names(desk))
    raise PlanError(
        f"There is no campaign “{name}” in {PLANS}/.",
        f"There are {known}."
        if known
        else f"Make {PLANS}/{name}/campaign.toml, or run `shareasm init` for an example.",
    )
