"""Planning: check, and plan sync, list, approve, cancel, send, pause and resume."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from shareasm.cli.session import Session, number_of, rfc3339, shown

if TYPE_CHECKING:
    from shareasm.errors import Problem
    from shareasm.model import Delivery
    from shareasm.store.posts import PlannedPost

BY = click.option("--by", required=True, help="Your name: it goes into the audit log.")
WHY = click.option("--why", required=True, help="The reason, for the others.")


@click.command("check")
@click.argument("campaign", required=False)
@click.pass_obj
def check_command(session: Session, campaign: str | None) -> int:
    """Find every problem of every post, file by line, per network, and try the accounts.

    Exit 1 if a post would not go out as planned.
    """
    from datetime import UTC, datetime

    from shareasm.errors import DeskError
    from shareasm.plan.sync import names, read_plan
    from shareasm.worker import limits_of, open_account

    desk = session.desk
    now = datetime.now(UTC)
    found: list[dict[str, Any]] = []
    limits = limits_of(desk, session.store)
    posts = 0
    for name in [session.folder_of(campaign)] if campaign else names(desk):
        plan = read_plan(desk, name, limits=limits, now=now)
        posts += len(plan.posts)
        found += [
            {
                "campaign": plan.campaign.folder,
                "where": p.where,
                "level": p.level,
                "why": p.why,
                "what_to_do": p.what_to_do,
            }
            for p in plan.problems
        ]
    for account in desk.accounts:
        try:
            open_account(desk, account, session.clock).identity()
        except DeskError as error:
            found.append(
                {
                    "campaign": None,
                    "where": account,
                    "level": "error",
                    "why": error.happened,
                    "what_to_do": error.what_to_do,
                }
            )
    errors = sum(problem["level"] == "error" for problem in found)
    if session.as_json:
        session.data({"posts": posts, "problems": found})
    for problem in found:
        session.say(f"{problem['level']}: {problem['where']}: {problem['why']} {problem['what_to_do']}".rstrip())
    counts = ((posts, "post"), (errors, "error"), (len(found) - errors, "warning"))
    session.say(", ".join(number_of(n, thing) for n, thing in counts) + ".")
    return 1 if errors else 0


def _problem(p: Problem) -> dict[str, str]:
    return {"where": p.where, "level": p.level, "why": p.why, "what_to_do": p.what_to_do}


@click.group("plan")
def plan_command() -> None:
    """Sync, list, approve, pause and resume the plan."""


@plan_command.command("sync")
@click.argument("campaign", required=False)
@click.pass_obj
def sync_command(session: Session, campaign: str | None) -> int:
    """Take scheduled_posts/ into the desk; say what is new, changed, conflicting. What went out is never sent again."""
    from shareasm.errors import PlanError
    from shareasm.plan.sync import names, sync
    from shareasm.worker import limits_of

    wanted = [session.folder_of(campaign)] if campaign else names(session.desk)
    if not wanted:
        raise PlanError("There is no campaign in scheduled_posts/.", "Run `shareasm init` for an example.")
    printed: list[dict[str, Any]] = []
    problems = 0
    for name in wanted:
        done = sync(
            session.store, session.desk, name, limits=limits_of(session.desk, session.store), now=session.clock.now()
        )
        c = done.changes
        told = done.plan.problems
        problems += sum(p.level == "error" for p in told) + len(c.conflicts)
        printed.append(
            {
                "campaign": done.plan.campaign.folder, "new": c.new, "changed": c.changed,
                "unchanged": len(c.unchanged), "missing": c.missing, "conflicts": c.conflicts,
                "problems": [_problem(p) for p in told],
            }
        )  # fmt: skip
        session.say(
            f"{done.plan.campaign.folder}: {len(c.new)} new, {len(c.changed)} changed, {len(c.unchanged)} unchanged, "
            f"{len(c.missing)} missing."
        )
        for problem in told:
            session.say(f"  {problem.level}: {problem}")
        for sentence in c.conflicts:
            session.say(f"  conflict: {sentence}")
        for post in c.missing:
            session.say(f"  missing: the file of {post} is gone; what waits of it waits for a person.")
    if session.as_json:
        session.data(printed)
    return 1 if problems else 0


@plan_command.command("list")
@click.argument("campaign", required=False)
@click.pass_obj
def list_command(session: Session, campaign: str | None) -> None:
    """List the deliveries in order of time; what is not approved yet is listed with its post's state."""
    folder = session.campaign(campaign).folder if campaign else None
    rows = [_delivery_row(d) for d in session.store.queue.all(folder)]
    live = {(row["campaign"], row["post"]) for row in rows if row["state"] != "cancelled"}
    planned = session.store.posts.all(folder)
    notes = {(one.campaign, one.post.id): one.note for one in planned}
    for one in planned:
        if (one.campaign, one.post.id) not in live and one.state in {"draft", "in_review"}:
            rows += _planned_rows(one, session.desk.networks)
    rows.sort(key=lambda row: (row["due"], row["id"]))
    if session.as_json:
        session.data(rows)
        return
    zones = {c.folder: ZoneInfo(c.time_zone) for c in session.store.campaigns.all()}
    session.table(
        ("due", "state", "account", "id", "text", "note"),
        [
            (
                _local(row, zones), row["state"], row["account"], row["id"], shown(row["text"], 48),
                shown(row["reason"] or notes.get((row["campaign"], row["post"]), ""), 60),
            )
            for row in rows
        ],
    )  # fmt: skip


@plan_command.command("approve")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Approve all posts that wait for approval.")
@click.option("--campaign", help="The campaign; needed when there are several.")
@BY
@click.pass_obj
def approve_command(session: Session, ids: tuple[str, ...], everything: bool, campaign: str | None, by: str) -> int:
    """Approve posts (by the id of the post, of its message or of a delivery): exactly what was synced goes out."""
    from shareasm.plan.sign_off import approve
    from shareasm.worker import limits_of

    if bool(ids) == everything:
        raise click.UsageError("Name the posts to approve, or say --all.")
    limits = limits_of(session.desk, session.store)
    done: list[dict[str, Any]] = []
    left_out: list[str] = []
    for folder in _campaigns_of(session, ids, campaign):
        signed = approve(
            session.store, session.desk, folder, list(ids) or None, by=by, limits=limits, now=session.clock.now()
        )
        done += [{"campaign": folder, "post": post, "deliveries": n} for post, n in signed.deliveries.items()]
        left_out += signed.left_out
    if session.as_json:
        session.data({"approved": done, "left_out": left_out})
    for sentence in left_out:
        session.say(f"left out: {sentence}")
    deliveries = sum(row["deliveries"] for row in done)
    session.say(f"Approved {number_of(len(done), 'post')}, {number_of(deliveries, 'delivery')}.")
    return 1 if left_out else 0


@plan_command.command("cancel")
@click.argument("ids", nargs=-1, required=True)
@BY
@WHY
@click.pass_obj
def cancel_command(session: Session, ids: tuple[str, ...], by: str, why: str) -> None:
    """Take waiting deliveries out of the plan."""
    from shareasm.plan.sign_off import role_for

    cancelled = _deliveries_of(session, ids)
    for one in cancelled:
        session.store.queue.cancel(one, by=by, role=role_for(session.desk, by), why=why, clock=session.clock)
        session.say(f"Cancelled {one}.")
    if session.as_json:
        session.data({"cancelled": cancelled})


@plan_command.command("send")
@click.argument("ids", nargs=-1, required=True)
@BY
@WHY
@click.pass_obj
def send_command(session: Session, ids: tuple[str, ...], by: str, why: str) -> None:
    """Release what is paused, missed or blocked, or send again what nobody found: now, on your word."""
    from shareasm.plan.sign_off import role_for

    for one in ids:
        session.store.queue.send_now(
            one, by=by, role=role_for(session.desk, by), why=why, clock=session.clock, last=timedelta(minutes=15)
        )
        session.say(f"{one} goes out now.")
    if session.as_json:
        session.data({"released": list(ids)})


SCOPES = (
    click.option("--campaign", help="Only this campaign."),
    click.option("--network", help="Only this network."),
    click.option("--account", help="Only this account."),
    click.option("--language", help="Only posts in this language."),
)


def _scoped(command):
    for option in reversed(SCOPES):
        command = option(command)
    return command


@plan_command.command("pause")
@_scoped
@BY
@WHY
@click.pass_obj
def pause_command(session: Session, by: str, why: str, **scopes: str | None) -> None:
    """Stop every send that has not begun, within a second. Without a scope: everything."""
    from shareasm.errors import NotAllowed
    from shareasm.plan.sign_off import role_for

    role = role_for(session.desk, by)
    if role == "viewer":
        raise NotAllowed(f"{by} is a viewer and may not pause.", "Ask an author or an approver.")
    chosen = _scopes(session, scopes)
    for scope, key in chosen:
        session.store.switches.pause(scope, key, by=by, role=role, reason=why, at=session.clock.now())
        session.say(f"Paused: {_scope_words(scope, key)}. Nothing of it goes out until `shareasm plan resume`.")
    if session.as_json:
        session.data({"paused": [{"scope": scope, "key": key} for scope, key in chosen]})


@plan_command.command("resume")
@_scoped
@BY
@WHY
@click.pass_obj
def resume_command(session: Session, by: str, why: str, **scopes: str | None) -> None:
    """Lift a pause. What fell into it waits for a person, one by one; nothing goes out in a burst."""
    from shareasm.errors import NotAllowed
    from shareasm.plan.sign_off import role_for
    from shareasm.store.posts import APPROVERS

    role = role_for(session.desk, by)
    if role not in APPROVERS:
        raise NotAllowed(f"{by} is {role} and may not lift a pause.", "Ask an approver.")
    chosen = _scopes(session, scopes)
    for scope, key in chosen:
        session.store.switches.resume(scope, key, by=by, role=role, reason=why, at=session.clock.now())
        session.say(f"Resumed: {_scope_words(scope, key)}.")
    fell = [d for d in session.store.queue.all() if d.state == "paused"]
    if session.as_json:
        resumed = [{"scope": scope, "key": key} for scope, key in chosen]
        session.data({"resumed": resumed, "still_paused": [d.id for d in fell]})
    for delivery in fell:
        session.say(f"  still paused: {delivery.id} ({shown(delivery.frozen.text, 48)})")
    if fell:
        session.say("Release them with `shareasm plan send ID --by NAME --why TEXT`, or cancel them.")


def _scopes(session: Session, scopes: dict[str, str | None]) -> list[tuple[str, str]]:
    from shareasm import networks
    from shareasm.errors import ConfigError
    from shareasm.text import did_you_mean

    chosen = [(scope, key) for scope, key in scopes.items() if key]
    known = {"network": networks.names(), "account": tuple(session.desk.accounts)}
    for scope, key in chosen:
        if scope in known and key not in known[scope]:
            raise ConfigError(f"There is no {scope} “{key}”.", did_you_mean(key, known[scope]))
    chosen = [(s, session.campaign(k).folder if s == "campaign" else k) for s, k in chosen]
    return chosen or [("all", "")]


def _scope_words(scope: str, key: str) -> str:
    return "everything" if scope == "all" else f"{scope} {key}"


def _campaigns_of(session: Session, ids: tuple[str, ...], campaign: str | None) -> list[str]:
    """Return the campaigns that these ids belong to: the one that is named, the one in the ids, or all for --all."""
    if campaign:
        return [session.campaign(campaign).folder]
    folders = [c.folder for c in session.store.campaigns.all()]
    if not ids and folders:
        return folders
    named = {one.split("/")[0] for one in ids if "/" in one} & set(folders)
    return sorted(named) or [session.campaign(None).folder]


def _deliveries_of(session: Session, ids: tuple[str, ...]) -> list[str]:
    """Return the deliveries that are meant: by their own id, or all waiting ones of a post."""
    every = session.store.queue.all()
    known = {d.id for d in every}
    found: list[str] = []
    for one in ids:
        meant = [one] if one in known else [d.id for d in every if d.post == one and d.state not in _ENDED]
        if not meant:
            session.store.queue.get(one)  # raises, naming what is wrong
        found += meant
    return list(dict.fromkeys(found))


_ENDED = {"published", "cancelled"}


def _delivery_row(d: Delivery) -> dict[str, Any]:
    return {
        "id": d.id, "post": d.post, "campaign": d.campaign, "account": d.account, "network": d.network, "part": d.part,
        "text": d.frozen.text, "language": d.frozen.language, "due": rfc3339(d.due_at), "state": str(d.state),
        "remote_id": d.receipt.remote_id if d.receipt else None,
        "remote_url": (d.receipt.url or None) if d.receipt else None,
        "sent_at": rfc3339(d.sent_at), "late_seconds": None if d.late_ms is None else d.late_ms / 1000,
        "tries": d.tries, "reason": d.reason,
    }  # fmt: skip


def _planned_rows(one: PlannedPost, networks: dict[str, str]) -> list[dict[str, Any]]:
    why = "; ".join(str(p) for p in one.problems if p.level == "error") or one.note
    revision = "" if one.revision == 1 else f"~{one.revision}"  # as its deliveries will be named
    return [
        {
            "id": f"{one.campaign}/{one.post.id}/{account}/{part}{revision}", "post": one.post.id,
            "campaign": one.campaign, "account": account, "network": networks.get(account), "part": part, "text": text,
            "language": one.post.language, "due": rfc3339(one.post.due_at), "state": str(one.state), "remote_id": None,
            "remote_url": None, "sent_at": None, "late_seconds": None, "tries": 0, "reason": why,
        }
        for account in one.post.accounts
        for part, text in enumerate(one.post.parts_for(networks.get(account, "")), 1)
    ]  # fmt: skip


def _local(row: dict[str, Any], zones: dict[str, ZoneInfo]) -> str:
    from datetime import datetime

    due = datetime.fromisoformat(row["due"])
    return due.astimezone(zones.get(row["campaign"], ZoneInfo("UTC"))).strftime("%Y-%m-%d %H:%M %Z")
