"""Posts: what the plan says, which revision was approved, and the deliveries that approval makes.

Only `approve` inserts deliveries. A file that is read again is an edit when its hash differs and nothing when it is
equal; what went out is never sent again, whatever its file says later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from sqlalchemy import Connection, and_, insert, select, update

from shareasm.errors import NotAllowed, PlanError, Problem, StateError
from shareasm.model import (
    UNDER_WAY,
    WAITING,
    DeliveryState,
    Frozen,
    Post,
    PostState,
    digest_of,
)
from shareasm.store import audit
from shareasm.store.engine import Database
from shareasm.store.tables import campaigns, deliveries, posts

APPROVERS = frozenset({"approver", "admin"})


@dataclass(frozen=True, slots=True)
class PlannedPost:
    """A Post as the desk holds it: its content, its state and who approved which revision."""

    campaign: str
    post: Post
    state: PostState
    revision: int
    revision_hash: str
    approved_hash: str | None
    approved_by: str | None
    approved_at: datetime | None
    problems: tuple[Problem, ...]
    note: str


@dataclass(slots=True)
class Sync:
    """What a sync found, by post id; `conflicts` are sentences that a person must read."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Approval:
    """One delivery that an approval makes: its id, what it freezes, and when it is due."""

    delivery_id: str
    frozen: Frozen


class Posts:
    """The posts of all campaigns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sync(
        self,
        campaign_id: int,
        planned: Sequence[Post],
        problems: Mapping[str, Sequence[Problem]],
        *,
        at: datetime,
        unreadable: frozenset[str] = frozenset(),
    ) -> Sync:
        """Take the posts as their files say now, all in one transaction, and report what that changed.

        A post with a problem lands as a draft. `unreadable` are files with a mistake: the posts that came from them
        are kept as they were, because a broken file takes nothing back.
        """
        report = Sync()
        with self._database.write() as connection:
            known = {row.id: row for row in _all_locked(connection, campaign_id)}
            for post in planned:
                _take(connection, campaign_id, post, known.pop(post.id, None), problems.get(post.id, ()), at, report)
            for row in known.values():
                if row.file not in unreadable and row.state != PostState.WITHDRAWN:
                    _gone(connection, campaign_id, row, at, report)
        return report

    def all(self, campaign: str | None = None) -> list[PlannedPost]:
        """Return the posts in order of time. Read-only."""
        query = select(posts, campaigns.c.folder).join(campaigns, campaigns.c.id == posts.c.campaign_id)
        if campaign is not None:
            query = query.where(campaigns.c.folder == campaign)
        with self._database.read() as connection:
            return [_planned(row) for row in connection.execute(query.order_by(posts.c.due_at, posts.c.id))]

    def approve(
        self,
        campaign_id: int,
        post_id: str,
        revision_hash: str,
        approvals: Sequence[Approval],
        *,
        by: str,
        role: str,
        at: datetime,
    ) -> int:
        """Approve exactly this revision and insert its deliveries, frozen. Return how many were made.

        Accounts and parts that are out already get no second delivery. Raise NotAllowed without the role, StateError
        when the post is not in review or has another revision by now.
        """
        if role not in APPROVERS:
            raise NotAllowed(f"{by} is {role} and may not approve.", "Ask an approver.")
        with self._database.write() as connection:
            row = _locked(connection, campaign_id, post_id)
            if row.state == PostState.APPROVED and row.approved_hash == revision_hash:
                return 0
            if row.state != PostState.IN_REVIEW:
                raise StateError(_not_ready(post_id, row), "Mend it, then run `shareasm plan sync`.", where=row.file)
            if row.revision_hash != revision_hash:
                raise StateError(f"{post_id} was changed a moment ago.", "Look at it again, then approve.")
            made = _insert_deliveries(connection, campaign_id, _decoded(row.content), approvals, at)
            connection.execute(
                update(posts)
                .where(posts.c.campaign_id == campaign_id, posts.c.id == post_id)
                .values(state=PostState.APPROVED, approved_hash=revision_hash, approved_by=by, approved_at=at)
            )
            audit.write(
                connection, at=at, person=by, role=role, action="approve", on=f"post:{post_id}", after=revision_hash
            )
            return made

    def withdraw(self, campaign_id: int, post_id: str, *, by: str, role: str, why: str, at: datetime) -> None:
        """Take a post out of the plan for good; what waits of it is cancelled, what is out stays out."""
        if role not in APPROVERS:
            raise NotAllowed(f"{by} is {role} and may not withdraw a post.", "Ask an approver.")
        with self._database.write() as connection:
            _locked(connection, campaign_id, post_id)
            _cancel_waiting(connection, campaign_id, post_id, f"withdrawn by {by}: {why}")
            connection.execute(
                update(posts)
                .where(posts.c.campaign_id == campaign_id, posts.c.id == post_id)
                .values(state=PostState.WITHDRAWN, updated_at=at)
            )
            audit.write(connection, at=at, person=by, role=role, action="withdraw", on=f"post:{post_id}", why=why)


def _take(
    connection: Connection,
    campaign_id: int,
    post: Post,
    row,
    problems: Sequence[Problem],
    at: datetime,
    report: Sync,
) -> None:
    """Insert, update or leave one post; an edit of an approved one voids the approval."""
    errors = [problem for problem in problems if problem.level == "error"]
    state = PostState.IN_REVIEW if post.ready and not errors else PostState.DRAFT
    values = {
        "message": post.message,
        "language": post.language,
        "due_at": post.due_at,
        "file": post.file,
        "line": post.line,
        "problems": msgspec.json.encode(list(problems)).decode(),
    }
    content = {"content": msgspec.json.encode(post).decode(), "revision_hash": post.revision_hash, "updated_at": at}
    where = and_(posts.c.campaign_id == campaign_id, posts.c.id == post.id)
    if row is None:
        connection.execute(
            insert(posts).values(campaign_id=campaign_id, id=post.id, state=state, revision=1, **values, **content)
        )
        report.new.append(post.id)
        return
    if row.revision_hash == post.revision_hash:
        kept_state = row.state if row.state in {PostState.APPROVED, PostState.WITHDRAWN} else state
        connection.execute(
            update(posts).where(where).values(**values, content=content["content"], state=kept_state, note="")
        )
        (report.unchanged if kept_state == row.state else report.changed).append(post.id)
        return
    if row.state == PostState.WITHDRAWN:
        report.conflicts.append(f"{post.file}: {post.id} was withdrawn and is not taken up again. Give it a new id.")
        return
    if _refuses_edit(connection, campaign_id, post, row, report):
        return
    if row.state == PostState.APPROVED:
        audit.write(
            connection, at=at, person="plan sync", role="desk", action="edit", on=f"post:{post.id}",
            before=row.revision_hash, after=post.revision_hash, why="its file was edited; its approval is void",
        )  # fmt: skip
    _cancel_waiting(connection, campaign_id, post.id, "the post was edited")
    connection.execute(
        update(posts)
        .where(where)
        .values(
            **values,
            **content,
            state=state,
            revision=row.revision + 1,
            approved_hash=None,
            approved_by=None,
            approved_at=None,
            note="",
        )
    )
    report.changed.append(post.id)


def _refuses_edit(connection: Connection, campaign_id: int, post: Post, row, report: Sync) -> bool:
    """Return True when this edit comes too late: something of the post is out or on its way. Nothing is sent again."""
    query = select(deliveries.c.state).where(
        deliveries.c.campaign_id == campaign_id,
        deliveries.c.post_id == post.id,
        deliveries.c.state != DeliveryState.CANCELLED,
    )
    if connection.dialect.name == "postgresql":  # or a worker claims one between this look and the edit
        query = query.order_by(deliveries.c.id).with_for_update()
    states = set(connection.execute(query).scalars())
    if states & {str(state) for state in UNDER_WAY}:
        report.conflicts.append(
            f"{post.file}: {post.id} is on its way or waits for a person; the change was not taken. Sync again after."
        )
    elif states and states <= {str(DeliveryState.PUBLISHED)}:
        connection.execute(
            update(posts)
            .where(posts.c.campaign_id == campaign_id, posts.c.id == post.id)
            .values(note="changed since sent", file=post.file, line=post.line)
        )
        report.conflicts.append(f"{post.file}: {post.id} was changed since it was sent; it is not sent again.")
    else:
        return False
    return True


def _gone(connection: Connection, campaign_id: int, row, at: datetime, report: Sync) -> None:
    """Hold what waits of a post whose file is gone: a person decides. What was not approved yet cannot be any more."""
    state = PostState.DRAFT if row.state == PostState.IN_REVIEW else row.state
    connection.execute(
        update(posts)
        .where(posts.c.campaign_id == campaign_id, posts.c.id == row.id)
        .values(note="its file is missing", state=state, updated_at=at)
    )
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.campaign_id == campaign_id,
            deliveries.c.post_id == row.id,
            deliveries.c.state == DeliveryState.SCHEDULED,
        )
        .values(state=DeliveryState.PAUSED, reason=f"{row.file} is missing; release or cancel it")
    )
    report.missing.append(row.id)


def _insert_deliveries(
    connection: Connection, campaign_id: int, post: Post, approvals: Sequence[Approval], at: datetime
) -> int:
    live = {
        (row.account, row.part)
        for row in connection.execute(
            select(deliveries.c.account, deliveries.c.part).where(
                deliveries.c.campaign_id == campaign_id,
                deliveries.c.post_id == post.id,
                deliveries.c.state != DeliveryState.CANCELLED,
            )
        )
    }
    wanted = [a for a in approvals if (a.frozen.account, a.frozen.part) not in live]
    for approval in wanted:
        frozen = approval.frozen
        record = frozen.as_json()
        connection.execute(
            insert(deliveries).values(
                id=approval.delivery_id,
                campaign_id=campaign_id,
                post_id=post.id,
                account=frozen.account,
                network=frozen.network,
                language=frozen.language,
                part=frozen.part,
                of_parts=frozen.of_parts,
                state=DeliveryState.SCHEDULED,
                due_at=post.due_at,
                next_at=post.due_at,
                not_after=post.due_at + post.not_after,
                if_late=post.if_late,
                frozen=json.dumps(record, ensure_ascii=False, sort_keys=True),
                frozen_hash=digest_of(record),
                idem_key=frozen.key,
                reply_to=post.reply_to,
                created_at=at,
            )
        )
    return len(wanted)


def _cancel_waiting(connection: Connection, campaign_id: int, post_id: str, reason: str) -> None:
    connection.execute(
        update(deliveries)
        .where(
            deliveries.c.campaign_id == campaign_id,
            deliveries.c.post_id == post_id,
            deliveries.c.state.in_([str(state) for state in WAITING]),
        )
        .values(state=DeliveryState.CANCELLED, reason=reason, fence=deliveries.c.fence + 1)
    )


def _all_locked(connection: Connection, campaign_id: int):
    """Return the campaign's posts, held until the transaction ends: one sync at a time, and no approval beside it."""
    query = select(posts).where(posts.c.campaign_id == campaign_id).order_by(posts.c.id)
    if connection.dialect.name == "postgresql":
        one = select(campaigns.c.id).where(campaigns.c.id == campaign_id).with_for_update(key_share=True)
        connection.execute(one)
        query = query.with_for_update()
    return connection.execute(query).all()


def _locked(connection: Connection, campaign_id: int, post_id: str):
    query = select(posts).where(posts.c.campaign_id == campaign_id, posts.c.id == post_id)
    if connection.dialect.name == "postgresql":
        query = query.with_for_update()
    row = connection.execute(query).first()
    if row is None:
        raise PlanError(f"The plan has no post “{post_id}”.", "See `shareasm plan list`.")
    return row


def _not_ready(post_id: str, row) -> str:
    problems = msgspec.json.decode(row.problems, type=list[Problem])
    errors = [str(problem) for problem in problems if problem.level == "error"]
    return f"{post_id} is {row.state}, not waiting for approval. {' '.join(errors)}".strip()


def _decoded(content: str) -> Post:
    return msgspec.json.decode(content, type=Post)


def _planned(row) -> PlannedPost:
    return PlannedPost(
        campaign=row.folder,
        post=_decoded(row.content),
        state=PostState(row.state),
        revision=row.revision,
        revision_hash=row.revision_hash,
        approved_hash=row.approved_hash,
        approved_by=row.approved_by,
        approved_at=row.approved_at,
        problems=tuple(msgspec.json.decode(row.problems, type=list[Problem])),
        note=row.note,
    )
