"""Rollups: the few sums that pages read instead of the mentions, moved by differences in the ingest transaction.

A `Ledger` collects what one page changes and writes it once, in the order of the keys, so that two writers cannot lock
each other out. `rebuild` counts everything anew from the mentions, by other code, and is the oracle for the ledger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Column, Connection, ScalarSelect, Table, bindparam, delete, func, select

from shareasm.model import Counts, Kind, MentionState
from shareasm.store.engine import Database, hold_conversation, insert_sql, micros, run, without_time_limit
from shareasm.store.tables import (
    ROLLUPS,
    author_counts,
    authors,
    campaigns,
    mentions,
    r_author,
    r_post,
    r_reach,
    r_share,
    r_time,
    snapshots,
)

CHUNK = 500
M = MentionState
NO_COUNTS = Counts()
COUNTS = ("likes", "reposts", "replies", "quotes", "views")


@dataclass(frozen=True, slots=True)
class Fact:
    """What one mention adds to the rollups."""

    mention_id: int
    network: str
    language: str
    kind: Kind
    state: MentionState
    in_totals: bool
    author_id: int
    posted_at: datetime
    counts: Counts
    age_s: int

    @property
    def share(self) -> str | None:
        """Return under which kind it is shared out: its own when it counts; None when it is in no number."""
        if self.in_totals:
            return self.kind
        return {M.CARRIED: "carried", M.CONVERSATION: "conversation"}.get(self.state)

    @property
    def has_counts(self) -> bool:
        """Return True when the network gave at least one count for this very post."""
        return self.kind != "repost" and self.counts != NO_COUNTS


@dataclass(slots=True)
class AuthorRow:
    """One contributor's row of `r_author`."""

    author_id: int
    network: str
    group_name: str = "unknown"
    country: str = ""
    ours: bool = False
    spoken: int = 0
    reposts: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    followers: int | None = None
    followers_at: datetime | None = None
    engagements: int = 0


@dataclass(slots=True)
class _AuthorChange:
    network: str
    spoken: int = 0
    reposts: int = 0
    engagements: int = 0
    moments: list[datetime] = field(default_factory=list)
    left: set[datetime] = field(default_factory=set)
    """Moments at which a mention of this author stood, and stands no more."""


class Ledger:
    """The differences that one transaction makes to the rollups of one campaign."""

    def __init__(self, connection: Connection, campaign_id: int, zone: ZoneInfo) -> None:
        self._connection = connection
        self._campaign_id = campaign_id
        self._zone = zone
        self._time: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        self._share: dict[tuple[int, str, str, str], list[int]] = defaultdict(lambda: [0] * len(_SHARE))
        self._authors: dict[int, _AuthorChange] = {}
        self._posts: dict[int, Fact] = {}
        self._ours: set[int] = set()
        self._told: set[int] = set()

    def change(self, before: Fact | None, after: Fact) -> None:
        """Note that a mention came, or is now another than it was."""
        if before is not None:
            self._add(before, -1)
        self._add(after, +1)
        if before is not None and before.in_totals and (not after.in_totals or after.posted_at != before.posted_at):
            self._authors[after.author_id].left.add(before.posted_at)
        if after.has_counts and (before is None or before.counts != after.counts or before.age_s != after.age_s):
            self._posts[after.mention_id] = after

    def ours(self, author_id: int) -> None:
        """Note that this contributor is one of our own accounts."""
        self._ours.add(author_id)

    def followers(self, author_ids: Iterable[int]) -> None:
        """Note that the network told how many follow these contributors."""
        self._told.update(author_ids)

    def write(self) -> None:
        """Move the rollups by what was noted."""
        c = self._campaign_id
        self._move(r_time, ("minute", "network"), _TIME, self._time)
        self._move(r_share, ("day", "network", "language", "kind"), _SHARE, self._share)
        self._drop_empty(r_time, ("minute", "network"), _TIME, self._time)
        self._drop_empty(r_share, ("day", "network", "language", "kind"), ("posts",), self._share)
        columns = ("campaign_id", "mention_id", *COUNTS, "engagements", "age_s")
        sets = ", ".join(f"{name} = excluded.{name}" for name in columns[2:])
        sql = insert_sql(r_post, columns, self._sqlite, f"ON CONFLICT (campaign_id, mention_id) DO UPDATE SET {sets}")
        run(
            self._connection,
            sql,
            [
                (c, fact.mention_id, *_values(fact.counts), engagements_of(fact.counts), fact.age_s)
                for _, fact in sorted(self._posts.items())
            ],
        )
        self._write_authors()

    @property
    def _sqlite(self) -> bool:
        return self._connection.dialect.name == "sqlite"

    def _add(self, fact: Fact, sign: int) -> None:
        share = fact.share
        if share is None:
            return
        minute = micros(fact.posted_at) // 60_000_000
        column = 2 if share == "conversation" else 1 if fact.kind == "repost" else 0
        if share != "carried":
            self._time[minute, fact.network][column] += sign
        day = fact.posted_at.astimezone(self._zone).toordinal()
        _accumulate(self._share[day, fact.network, fact.language, share], fact, sign)
        if fact.in_totals:
            author = self._authors.setdefault(fact.author_id, _AuthorChange(fact.network))
            if fact.kind == "repost":
                author.reposts += sign
            else:
                author.spoken += sign
                author.engagements += sign * (engagements_of(fact.counts) or 0)
            if sign > 0:
                author.moments.append(fact.posted_at)

    def _move(
        self, table: Table, keys: tuple[str, ...], columns: tuple[str, ...], moved: Mapping[tuple[Any, ...], list[int]]
    ) -> None:
        sets = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in columns)
        conflict = f"ON CONFLICT (campaign_id, {', '.join(keys)}) DO UPDATE SET {sets}"
        sql = insert_sql(table, ("campaign_id", *keys, *columns), self._sqlite, conflict)
        rows = [(self._campaign_id, *key, *values) for key, values in sorted(moved.items()) if any(values)]
        run(self._connection, sql, rows)

    def _drop_empty(
        self, table: Table, keys: tuple[str, ...], sums: tuple[str, ...], moved: Mapping[tuple[Any, ...], list[int]]
    ) -> None:
        """Take away the rows under which nobody is counted any more."""
        fewer = [key for key, values in sorted(moved.items()) if any(v < 0 for v in values[: len(sums)])]
        if fewer:
            same = [table.c[name] == bindparam(f"key_{name}") for name in keys]
            empty = [table.c[name] == 0 for name in sums]
            statement = delete(table).where(table.c.campaign_id == self._campaign_id, *same, *empty)
            names = [f"key_{name}" for name in keys]
            self._connection.execute(statement, [dict(zip(names, key, strict=True)) for key in fewer])

    def _write_authors(self) -> None:
        ids = sorted(self._authors.keys() | self._ours | self._told)
        if not ids:
            return
        before = _author_rows(self._connection, self._campaign_id, ids)
        followers = _followers(self._connection, ids)
        after: dict[int, AuthorRow] = {}
        for author_id in ids:
            old = before.get(author_id)
            change = self._authors.get(author_id)
            row = _moved(old, author_id, change)
            if row is None:
                continue
            if change is not None and row.spoken + row.reposts and change.left & {row.first_at, row.last_at}:
                row.first_at, row.last_at = self._span(author_id)
            row.ours = row.ours or author_id in self._ours
            if author_id in followers:
                row.followers, row.followers_at = followers[author_id]
            after[author_id] = row
        kept = {author_id: row for author_id, row in after.items() if row.spoken + row.reposts > 0}
        gone = [author_id for author_id in before if author_id in after and author_id not in kept]
        write_authors(self._connection, self._campaign_id, [r for i, r in sorted(kept.items()) if r != before.get(i)])
        for author_id in gone:
            self._connection.execute(
                delete(r_author).where(r_author.c.campaign_id == self._campaign_id, r_author.c.author_id == author_id)
            )
        self._move_reach([r for i, r in before.items() if i in after], list(kept.values()))

    def _span(self, author_id: int) -> tuple[datetime | None, datetime | None]:
        found = self._connection.execute(
            select(func.min(mentions.c.posted_at), func.max(mentions.c.posted_at)).where(
                mentions.c.campaign_id == self._campaign_id, mentions.c.author_id == author_id, mentions.c.in_totals
            )
        ).one()
        return found[0], found[1]

    def _move_reach(self, before: Sequence[AuthorRow], after: Sequence[AuthorRow]) -> None:
        """Move the sums of reach; a maximum that fell is counted anew for its key only."""
        moved: dict[tuple[str, str, bool], list[int]] = defaultdict(lambda: [0] * len(_REACH))
        peak: dict[tuple[str, str, bool], int] = {}
        fell: set[tuple[str, str, bool]] = set()
        for sign, rows in ((-1, before), (+1, after)):
            for row in rows:
                key = (row.network, row.group_name, row.ours)
                for index, value in enumerate(_reach_of(row)):
                    moved[key][index] += sign * value
                peak[key] = max(peak.get(key, 0), row.followers or 0)
        now = {row.author_id: row for row in after}
        for row in before:
            later = now.get(row.author_id)
            same_key = later is not None and (later.network, later.group_name, later.ours) == (
                row.network, row.group_name, row.ours,
            )  # fmt: skip
            if not same_key or later is None or (later.followers or 0) < (row.followers or 0):
                fell.add((row.network, row.group_name, row.ours))
        rows = [
            (self._campaign_id, *key, *values, peak[key])
            for key, values in sorted(moved.items())
            if any(values) or peak[key]
        ]
        sets = ", ".join(f"{name} = r_reach.{name} + excluded.{name}" for name in _REACH)
        greatest = "MAX" if self._sqlite else "GREATEST"
        sets += f", followers_max = {greatest}(r_reach.followers_max, excluded.followers_max)"
        conflict = f"ON CONFLICT (campaign_id, network, group_name, ours) DO UPDATE SET {sets}"
        columns = ("campaign_id", "network", "group_name", "ours", *_REACH, "followers_max")
        run(self._connection, insert_sql(r_reach, columns, self._sqlite, conflict), rows)
        for network, group_name, ours in sorted(fell):
            self._recount_peak(network, group_name, ours)

    def _recount_peak(self, network: str, group_name: str, ours: bool) -> None:
        same = (
            r_author.c.campaign_id == self._campaign_id, r_author.c.network == network,
            r_author.c.group_name == group_name, r_author.c.ours == ours,
        )  # fmt: skip
        peak = self._connection.execute(select(func.coalesce(func.max(r_author.c.followers), 0)).where(*same)).scalar()
        key = (
            r_reach.c.campaign_id == self._campaign_id, r_reach.c.network == network,
            r_reach.c.group_name == group_name, r_reach.c.ours == ours,
        )  # fmt: skip
        self._connection.execute(r_reach.update().where(*key).values(followers_max=peak))
        self._connection.execute(r_reach.delete().where(*key, r_reach.c.authors == 0))


_TIME = ("spoken", "reposts", "conversation")
_SHARE = ("posts", "deleted", *COUNTS, *(f"n_{name}" for name in COUNTS), "n_counts")
_REACH = ("authors", "speaking", "only_reposting", "followers_sum", "followers_known", "followers_only_reposting")
_AUTHOR = (
    "author_id", "network", "group_name", "country", "ours", "spoken", "reposts", "first_at", "last_at", "followers",
    "followers_at", "engagements",
)  # fmt: skip


def engagements_of(counts: Counts) -> int | None:
    """Return likes + reposts + replies + quotes, as far as they are known; None when none is."""
    known = [n for n in (counts.likes, counts.reposts, counts.replies, counts.quotes) if n is not None]
    return sum(known) if known else None


def stands_for(age_s: int, counts: Counts) -> tuple[int, ...]:
    """Return the key by which the greatest snapshot stands for its post: its age, then its counts."""
    likes, reposts, replies, quotes, views = [-1 if n is None else n for n in _values(counts)]
    return age_s, likes, reposts, replies, quotes, views


def _values(counts: Counts) -> tuple[int | None, ...]:
    return counts.likes, counts.reposts, counts.replies, counts.quotes, counts.views  # in the order of COUNTS


def _accumulate(sums: list[int], fact: Fact, sign: int) -> None:
    sums[0] += sign
    if fact.state is M.DELETED:
        sums[1] += sign
    if not fact.has_counts:
        return
    for index, value in enumerate(_values(fact.counts), start=2):
        if value is not None:
            sums[index] += sign * value
            sums[index + len(COUNTS)] += sign
    sums[-1] += sign


def _reach_of(row: AuthorRow) -> tuple[int, ...]:
    quiet = row.spoken == 0
    followers = row.followers or 0
    return (1, int(not quiet), int(quiet), followers, int(row.followers is not None), followers if quiet else 0)


def _moved(old: AuthorRow | None, author_id: int, change: _AuthorChange | None) -> AuthorRow | None:
    if change is None:
        return replace(old) if old else None
    row = replace(old) if old else AuthorRow(author_id, change.network)
    row.spoken += change.spoken
    row.reposts += change.reposts
    row.engagements += change.engagements
    moments = [at for at in (*change.moments, row.first_at, row.last_at) if at is not None]
    if moments:
        row.first_at, row.last_at = min(moments), max(moments)
    return row


def _author_rows(connection: Connection, campaign_id: int, ids: Sequence[int]) -> dict[int, AuthorRow]:
    query = select(*(r_author.c[name] for name in _AUTHOR)).where(
        r_author.c.campaign_id == campaign_id, r_author.c.author_id.in_(bindparam("ids", expanding=True))
    )
    found: dict[int, AuthorRow] = {}
    for start in range(0, len(ids), CHUNK):
        for row in connection.execute(query, {"ids": list(ids[start : start + CHUNK])}):
            found[row.author_id] = AuthorRow(*row)
    return found


def _followers(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[int, datetime]]:
    """Return the latest follower count of each author, with its date.

    One step in the index per author: who speaks often has been counted often.
    """

    def latest(column: Column[Any]) -> ScalarSelect[Any]:
        known = (author_counts.c.author_id == authors.c.id, author_counts.c.followers.is_not(None))
        return select(column).where(*known).order_by(author_counts.c.at.desc()).limit(1).scalar_subquery()

    query = select(authors.c.id, latest(author_counts.c.followers), latest(author_counts.c.at)).where(
        authors.c.id.in_(bindparam("ids", expanding=True))
    )
    found: dict[int, tuple[int, datetime]] = {}
    for start in range(0, len(ids), CHUNK):
        for author_id, followers, at in connection.execute(query, {"ids": list(ids[start : start + CHUNK])}):
            if followers is not None:
                found[author_id] = (followers, at)
    return found


def write_authors(connection: Connection, campaign_id: int, rows: Iterable[AuthorRow]) -> None:
    """Write these rows of `r_author` as they are."""
    sets = ", ".join(f"{name} = excluded.{name}" for name in _AUTHOR[1:])
    conflict = f"ON CONFLICT (campaign_id, author_id) DO UPDATE SET {sets}"
    sql = insert_sql(r_author, ("campaign_id", *_AUTHOR), connection.dialect.name == "sqlite", conflict)
    run(
        connection,
        sql,
        [
            (
                campaign_id, row.author_id, row.network, row.group_name, row.country, row.ours, row.spoken, row.reposts,
                micros(row.first_at) if row.first_at else 0, micros(row.last_at) if row.last_at else 0, row.followers,
                micros(row.followers_at) if row.followers_at else None, row.engagements,
            )
            for row in rows
        ],
    )  # fmt: skip


# ── Counting anew ────────────────────────────────────────────────────────────────────────────────────────────────────


_STREAM = {"yield_per": 2_000}


def rebuild(database: Database, campaign_id: int) -> dict[str, int]:
    """Count every rollup of a campaign anew from its mentions, in one transaction. Return the rows that differed."""
    with database.write() as connection:
        without_time_limit(connection)
        hold_conversation(connection, campaign_id)
        fresh = _count_all(connection, campaign_id)
        differing: dict[str, int] = {}
        for table in ROLLUPS:
            held = {tuple(row) for row in connection.execute(select(table).where(table.c.campaign_id == campaign_id))}
            differing[table.name] = len(held ^ fresh[table.name])
            if differing[table.name]:
                connection.execute(delete(table).where(table.c.campaign_id == campaign_id))
                names = tuple(column.name for column in table.columns)
                rows = [tuple(micros(v) if isinstance(v, datetime) else v for v in row) for row in fresh[table.name]]
                run(connection, insert_sql(table, names, connection.dialect.name == "sqlite"), sorted(rows, key=repr))
    return differing


def _count_all(connection: Connection, campaign_id: int) -> dict[str, set[tuple[Any, ...]]]:
    """Return what every rollup must hold, straight from mentions, snapshots and author counts."""
    zone = ZoneInfo(connection.execute(select(campaigns.c.time_zone).where(campaigns.c.id == campaign_id)).scalar_one())
    latest = _latest_snapshots(connection, campaign_id)
    marks = {
        row.author_id: row for row in connection.execute(select(r_author).where(r_author.c.campaign_id == campaign_id))
    }
    time: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    share: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SHARE))
    people: dict[int, AuthorRow] = {}
    posts: set[tuple[Any, ...]] = set()
    rows = connection.execute(
        select(mentions).where(mentions.c.campaign_id == campaign_id).order_by(mentions.c.id), execution_options=_STREAM
    )
    for row in rows:
        counts, age_s = latest.get(row.id, (Counts(), -1))
        if row.kind == "repost":
            counts, age_s = Counts(), -1
        if age_s >= 0:
            posts.add((campaign_id, row.id, *_values(counts), engagements_of(counts), age_s))
        state = MentionState(row.state)
        kind = row.kind if row.in_totals else {M.CARRIED: "carried", M.CONVERSATION: "conversation"}.get(state)
        if kind is None:
            continue
        if kind != "carried":
            column = 2 if kind == "conversation" else 1 if row.kind == "repost" else 0
            time[campaign_id, micros(row.posted_at) // 60_000_000, row.network][column] += 1
        sums = share[campaign_id, row.posted_at.astimezone(zone).toordinal(), row.network, row.language, kind]
        sums[0] += 1
        sums[1] += state is M.DELETED
        if age_s >= 0:
            for index, value in enumerate(_values(counts)):
                sums[2 + index] += value or 0
                sums[2 + len(COUNTS) + index] += value is not None
            sums[-1] += 1
        if row.in_totals:
            _count_author(people, row, counts)
    for person in people.values():
        mark = marks.get(person.author_id)
        if mark is not None:
            person.ours, person.group_name, person.country = mark.ours, mark.group_name, mark.country
    told = _followers(connection, sorted(people))
    for author_id, (followers, at) in told.items():
        people[author_id].followers, people[author_id].followers_at = followers, at
    return {
        "r_time": {(*key, *values) for key, values in time.items()},
        "r_share": {(*key, *values) for key, values in share.items()},
        "r_author": {(campaign_id, *(getattr(p, name) for name in _AUTHOR)) for p in people.values()},
        "r_post": posts,
        "r_reach": _count_reach(campaign_id, people.values()),
    }


def _latest_snapshots(connection: Connection, campaign_id: int) -> dict[int, tuple[Counts, int]]:
    """Return of each post the counts of its greatest snapshot."""
    rows = connection.execute(
        select(snapshots)
        .join(mentions, mentions.c.id == snapshots.c.mention_id)
        .where(mentions.c.campaign_id == campaign_id),
        execution_options=_STREAM,
    )
    latest: dict[int, tuple[Counts, int]] = {}
    for row in rows:
        counts = Counts(row.likes, row.reposts, row.replies, row.quotes, None, row.views)
        held = latest.get(row.mention_id)
        if held is None or stands_for(row.age_s, counts) > stands_for(held[1], held[0]):
            latest[row.mention_id] = (counts, row.age_s)
    return latest


def _count_author(people: dict[int, AuthorRow], row: Any, counts: Counts) -> None:
    person = people.setdefault(row.author_id, AuthorRow(row.author_id, row.network))
    if row.kind == "repost":
        person.reposts += 1
    else:
        person.spoken += 1
        person.engagements += engagements_of(counts) or 0
    person.first_at = min(person.first_at or row.posted_at, row.posted_at)
    person.last_at = max(person.last_at or row.posted_at, row.posted_at)


def _count_reach(campaign_id: int, people: Iterable[AuthorRow]) -> set[tuple[Any, ...]]:
    cells: dict[tuple[str, str, bool], list[AuthorRow]] = defaultdict(list)
    for person in people:
        cells[person.network, person.group_name, person.ours].append(person)
    names = [c.name for c in r_reach.columns][4:]
    counted = set()
    for key, members in cells.items():
        quiet = [m for m in members if m.spoken == 0]
        values = {
            "authors": len(members),
            "speaking": len(members) - len(quiet),
            "only_reposting": len(quiet),
            "followers_sum": sum(m.followers or 0 for m in members),
            "followers_max": max(m.followers or 0 for m in members),
            "followers_known": sum(m.followers is not None for m in members),
            "followers_only_reposting": sum(m.followers or 0 for m in quiet),
        }
        counted.add((campaign_id, *key, *(values[name] for name in names)))
    return counted
