"""Conversation: the one door through which mentions come in, live or from an archive.

`put` keeps a page in one transaction: rows, sightings, raw records, snapshots, rollups and the cursor that stands
behind them. A crash leaves all of a page or nothing of it; a page that is read again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import zstandard
from sqlalchemy import Connection, bindparam, insert, or_, select, text, update

from shareasm.model import (
    AccountChanged,
    Author,
    Counts,
    Hole,
    Kind,
    MentionState,
    Removed,
    Seen,
    Tally,
)
from shareasm.store import sources
from shareasm.store.engine import Database, insert_sql, micros, moment, run
from shareasm.store.rollups import Fact, Ledger, stands_for
from shareasm.store.tables import (
    author_counts,
    authors,
    campaigns,
    deliveries,
    mentions,
    r_post,
    raws,
    sightings,
    snapshots,
)

CHUNK = 500
_compress = zstandard.ZstdCompressor(level=3).compress

M = MentionState


@dataclass(frozen=True, slots=True)
class Candidate:
    """A collected post with what the campaign's rules say of it: its spelling of the hashtag, empty when it has none.

    `told` is True for what a person imported as this campaign's conversation: it counts on their word.
    """

    seen: Seen
    spelling: str = ""
    language: str = ""
    language_source: str = ""
    told: bool = False


@dataclass(frozen=True, slots=True)
class Intake:
    """One page as the store takes it."""

    candidates: Sequence[Candidate] = ()
    context: Sequence[Candidate] = ()
    removed: Sequence[Removed] = ()
    accounts: Sequence[AccountChanged] = ()
    holes: Sequence[Hole] = ()
    cursor: str | None = None
    complete_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """One mention as a page shows it."""

    id: int
    network: str
    native_id: str
    kind: Kind
    state: MentionState
    author: str
    handle: str
    text: str
    language: str
    posted_at: datetime
    url: str
    may_be_named: bool
    ours: bool = False


@dataclass(slots=True)
class _Row:
    """A mention as it stands in the database, or as this page makes it."""

    id: int
    kind: Kind
    state: MentionState
    in_totals: bool
    author_id: int
    posted_at: datetime
    edited_at: datetime | None
    text: str
    language: str
    of_native_id: str
    spelling: str
    revision: int
    counts: Counts
    age_s: int
    fresh: bool = False


@dataclass(slots=True)
class _Work:
    """What one page needs while it is taken in."""

    connection: Connection
    campaign_id: int
    source_id: int
    at: datetime
    zone: ZoneInfo
    own_handles: frozenset[tuple[str, str]]
    rows: dict[tuple[str, str], _Row] = field(default_factory=dict)
    author_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    tally: Tally = Tally()


class Conversation:
    """The mentions of all campaigns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        campaign_id: int,
        source_id: int,
        intake: Intake,
        *,
        at: datetime,
        own_handles: frozenset[tuple[str, str]] = frozenset(),
    ) -> Tally:
        """Keep one page whole, with its cursor, and return what became of its rows."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":  # one writer per campaign: the rollups move by differences
                connection.execute(text("SELECT pg_advisory_xact_lock(:c)"), {"c": campaign_id})
            zone = connection.execute(select(campaigns.c.time_zone).where(campaigns.c.id == campaign_id)).scalar_one()
            work = _Work(connection, campaign_id, source_id, at, ZoneInfo(zone), own_handles)
            ledger = Ledger(connection, campaign_id, work.zone)
            _take(work, intake, ledger)
            _remove(work, intake.removed, ledger)
            _hide(work, intake.accounts, ledger)
            ledger.write()
            sources.advance(
                connection,
                source_id,
                at,
                cursor=intake.cursor,
                complete_until=intake.complete_until,
                holes=intake.holes,
            )
        return work.tally

    def newest(self, campaign_id: int, *, limit: int = 20, before: datetime | None = None) -> list[Taken]:
        """Return the newest spoken mentions, newest first, at most 500. Read-only."""
        from shareasm.store.tables import r_author

        query = (
            select(mentions, authors.c.handle, authors.c.name, authors.c.may_be_named, r_author.c.ours)
            .join(authors, authors.c.id == mentions.c.author_id)
            .outerjoin(
                r_author, (r_author.c.campaign_id == mentions.c.campaign_id) & (r_author.c.author_id == authors.c.id)
            )
            .where(mentions.c.campaign_id == campaign_id, mentions.c.state == M.COUNTED, mentions.c.kind != "repost")
            .order_by(mentions.c.posted_at.desc(), mentions.c.id.desc())
            .limit(min(limit, CHUNK))
        )
        if before is not None:
            query = query.where(mentions.c.posted_at < before)
        with self._database.read() as connection:
            return [
                Taken(
                    row.id,
                    row.network,
                    row.native_id,
                    row.kind,
                    MentionState(row.state),
                    row.name,
                    row.handle,
                    row.text,
                    row.language,
                    row.posted_at,
                    row.url,
                    row.may_be_named,
                    bool(row.ours),
                )
                for row in connection.execute(query)
            ]


# ── Taking in ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _take(work: _Work, intake: Intake, ledger: Ledger) -> None:
    page = _distinct(intake.candidates)
    context = {key: c for key, c in _distinct(intake.context).items() if key not in page}
    _find(work, [*page.values(), *context.values()])
    wanted: list[tuple[Candidate, MentionState]] = []
    known = len(intake.candidates) - len(page)
    refused = 0
    for candidate in page.values():
        state = _verdict(work, candidate, page, context)
        if state is None:
            refused += 1
        else:
            wanted.append((candidate, state))
    carried = _carried(wanted, context, work)
    _write_authors(work, [c.seen.author for c, _ in wanted] + [c.seen.author for c in carried], wanted + _as(carried))
    new, changed = _write_rows(work, wanted, ledger)
    _write_rows(work, _as(carried), ledger)
    _mark_ours(work, page.values(), ledger)
    known += len(wanted) - new - changed
    work.tally += Tally(len(intake.candidates), new, known, changed, refused)


def _as(carried: Sequence[Candidate]) -> list[tuple[Candidate, MentionState]]:
    return [(candidate, M.CARRIED) for candidate in carried]


def _distinct(candidates: Iterable[Candidate]) -> dict[tuple[str, str], Candidate]:
    """Return each post once: of several versions in one page the latest edit, with the counts that were seen last."""
    latest: dict[tuple[str, str], Candidate] = {}
    for candidate in candidates:
        key = (candidate.seen.network, candidate.seen.native_id)
        before = latest.get(key)
        latest[key] = candidate if before is None or _is_later(candidate.seen, before.seen) else before
    return latest


def _is_later(seen: Seen, before: Seen) -> bool:
    if seen.edited_at != before.edited_at:
        return before.edited_at is None or (seen.edited_at is not None and seen.edited_at > before.edited_at)
    return (seen.counts_at or seen.posted_at) >= (before.counts_at or before.posted_at)


def _find(work: _Work, candidates: Sequence[Candidate]) -> None:
    """Load what the database holds of these posts and of those they answer or repeat."""
    wanted: dict[str, set[str]] = {}
    for candidate in candidates:
        seen = candidate.seen
        ids = wanted.setdefault(seen.network, set())
        ids.update(i for i in (seen.native_id, seen.of_id, seen.root_id, seen.reply_to_id, seen.quote_of_id) if i)
    for network, ids in wanted.items():
        _load(work, network, ids)


def _load(work: _Work, network: str, ids: Iterable[str]) -> None:
    columns = (
        mentions.c.id,
        mentions.c.native_id,
        mentions.c.kind,
        mentions.c.state,
        mentions.c.in_totals,
        mentions.c.author_id,
        mentions.c.posted_at,
        mentions.c.edited_at,
        mentions.c.text,
        mentions.c.language,
        mentions.c.of_native_id,
        mentions.c.spelling,
        mentions.c.revision,
        r_post.c.likes,
        r_post.c.reposts,
        r_post.c.replies,
        r_post.c.quotes,
        r_post.c.views,
        r_post.c.age_s,
    )
    query = (
        select(*columns)
        .outerjoin(r_post, (r_post.c.campaign_id == mentions.c.campaign_id) & (r_post.c.mention_id == mentions.c.id))
        .where(
            mentions.c.campaign_id == work.campaign_id,
            mentions.c.network == network,
            mentions.c.native_id.in_(bindparam("ids", expanding=True)),
        )
    )
    for chunk in _chunks(sorted(ids)):
        for row in work.connection.execute(query, {"ids": chunk}):
            counts = Counts(row.likes, row.reposts, row.replies, row.quotes, None, row.views)
            work.rows[network, row.native_id] = _Row(
                row.id,
                row.kind,
                MentionState(row.state),
                row.in_totals,
                row.author_id,
                row.posted_at,
                row.edited_at,
                row.text,
                row.language,
                row.of_native_id,
                row.spelling,
                row.revision,
                counts,
                row.age_s if row.age_s is not None else -1,
            )


def _verdict(
    work: _Work,
    candidate: Candidate,
    page: Mapping[tuple[str, str], Candidate],
    context: Mapping[tuple[str, str], Candidate],
) -> MentionState | None:
    """Return the state in which this post is kept; None when it is no part of the conversation.

    A repost counts when its original does. An answer without the hashtag, in a thread that we hold, is conversation.
    """
    seen = candidate.seen
    if not seen.public:
        return None
    if candidate.spelling or candidate.told:
        return M.COUNTED
    held = work.rows.get((seen.network, seen.native_id))
    if seen.kind == "repost":
        key = (seen.network, seen.of_id)
        original = work.rows.get(key)
        spelled = (page.get(key) or context.get(key) or Candidate(seen)).spelling
        if spelled or (original is not None and (original.in_totals or original.spelling)):
            return M.COUNTED
        return None
    if held is not None and held.in_totals and seen.edited_at is not None:
        return M.LEFT
    around = {seen.of_id, seen.reply_to_id, seen.quote_of_id, seen.root_id} - {"", seen.native_id}
    for native_id in around:
        key = (seen.network, native_id)
        row = work.rows.get(key)
        if row is not None and row.state in {M.COUNTED, M.CONVERSATION, M.DELETED}:
            return M.CONVERSATION
        if key in page and page[key].spelling:
            return M.CONVERSATION
    return None


def _carried(
    wanted: Sequence[tuple[Candidate, MentionState]], context: Mapping[tuple[str, str], Candidate], work: _Work
) -> list[Candidate]:
    """Return the originals that counted reposts carry in: their counts are known though nobody collected them."""
    ids = {(c.seen.network, c.seen.of_id) for c, state in wanted if state is M.COUNTED and c.seen.kind == "repost"}
    return [context[key] for key in sorted(ids & context.keys()) if context[key].seen.public]


def _write_rows(work: _Work, wanted: Sequence[tuple[Candidate, MentionState]], ledger: Ledger) -> tuple[int, int]:
    """Insert what is new, update what changed, and tell the ledger the difference. Return (new, changed)."""
    fresh = [
        (candidate, state)
        for candidate, state in wanted
        if (candidate.seen.network, candidate.seen.native_id) not in work.rows
    ]
    before = {key: replace(row) for key, row in work.rows.items()}
    _insert(work, fresh)
    changed = sum(_update(work, candidate, state) for candidate, state in wanted if not _is_fresh(work, candidate))
    _write_sightings(work, wanted)
    _write_snapshots(work, wanted)
    for candidate, _ in wanted:
        key = (candidate.seen.network, candidate.seen.native_id)
        old, now = before.get(key), work.rows[key]
        if old is None or old != now:
            ledger.change(_fact(key[0], old) if old else None, _fact(key[0], now))
        now.fresh = False
    return len(fresh), changed


def _is_fresh(work: _Work, candidate: Candidate) -> bool:
    return work.rows[candidate.seen.network, candidate.seen.native_id].fresh


def _fact(network: str, row: _Row) -> Fact:
    return Fact(
        row.id,
        network,
        row.language,
        row.kind,
        row.state,
        row.in_totals,
        row.author_id,
        row.posted_at,
        row.counts,
        row.age_s,
    )


_MENTION_COLUMNS = (
    "campaign_id", "network", "native_id", "kind", "state", "in_totals", "author_id", "posted_at", "first_seen_at",
    "edited_at", "text", "language", "language_source", "of_native_id", "root_native_id", "spelling", "url", "details",
)  # fmt: skip


def _insert(work: _Work, fresh: Sequence[tuple[Candidate, MentionState]]) -> None:
    if not fresh:
        return
    sqlite = work.connection.dialect.name == "sqlite"
    run(
        work.connection,
        insert_sql(mentions, _MENTION_COLUMNS, sqlite),
        [_mention(work, candidate, state) for candidate, state in fresh],
    )
    by_network: dict[str, list[str]] = {}
    for candidate, _ in fresh:
        by_network.setdefault(candidate.seen.network, []).append(candidate.seen.native_id)
    ids: dict[tuple[str, str], int] = {}
    query = select(mentions.c.native_id, mentions.c.id).where(
        mentions.c.campaign_id == work.campaign_id,
        mentions.c.network == bindparam("network"),
        mentions.c.native_id.in_(bindparam("ids", expanding=True)),
    )
    for network, natives in by_network.items():
        for chunk in _chunks(natives):
            for native_id, row_id in work.connection.execute(query, {"network": network, "ids": chunk}):
                ids[network, native_id] = row_id
    for candidate, state in fresh:
        seen = candidate.seen
        key = (seen.network, seen.native_id)
        work.rows[key] = _Row(
            ids[key],
            seen.kind,
            state,
            state is M.COUNTED,
            work.author_ids[seen.network, seen.author.native_id],
            seen.posted_at,
            seen.edited_at,
            seen.text,
            candidate.language,
            seen.of_id,
            candidate.spelling,
            1,
            Counts(),
            -1,
            fresh=True,
        )
    _write_raws(work, [candidate for candidate, _ in fresh])


def _mention(work: _Work, candidate: Candidate, state: MentionState) -> tuple[Any, ...]:
    seen = candidate.seen
    return (
        work.campaign_id, seen.network, seen.native_id, seen.kind, str(state), state is M.COUNTED,
        work.author_ids[seen.network, seen.author.native_id], micros(seen.posted_at), micros(work.at),
        micros(seen.edited_at) if seen.edited_at else None, _clean(seen.text), candidate.language,
        candidate.language_source, seen.of_id, seen.root_id, candidate.spelling, seen.url, _details(seen),
    )  # fmt: skip


def _details(seen: Seen) -> str:
    parts = {
        "tags": seen.tags, "links": seen.links, "media": seen.media, "mentions": seen.mentions,
        "reply_to": seen.reply_to_id, "quote_of": seen.quote_of_id,
    }  # fmt: skip
    return _clean(json.dumps({key: value for key, value in parts.items() if value}, ensure_ascii=False))


def _update(work: _Work, candidate: Candidate, state: MentionState) -> bool:
    """Take a newer version, a new state, or nothing. What its author deleted stays deleted."""
    seen = candidate.seen
    row = work.rows[seen.network, seen.native_id]
    if row.state is M.DELETED:
        return False
    values: dict[str, Any] = {}
    if state is M.COUNTED and row.state in {M.CARRIED, M.CONVERSATION, M.LEFT}:
        values |= {"state": str(state), "in_totals": True, "spelling": candidate.spelling}
        row.state, row.in_totals, row.spelling = state, True, candidate.spelling
    elif state is M.LEFT and row.state is M.COUNTED:
        values |= {"state": str(state), "in_totals": False}
        row.state, row.in_totals = state, False
    newer = seen.edited_at is not None and (row.edited_at is None or seen.edited_at > row.edited_at)
    if newer:
        row.edited_at = seen.edited_at
        values["edited_at"] = seen.edited_at
        if _clean(seen.text) != row.text:
            row.text, row.language, row.revision = _clean(seen.text), candidate.language, row.revision + 1
            values |= {
                "text": row.text, "language": row.language, "language_source": candidate.language_source,
                "revision": row.revision, "details": _details(seen),
            }  # fmt: skip
    if not values:
        return False
    work.connection.execute(update(mentions).where(mentions.c.id == row.id).values(**values))
    if "revision" in values:
        _write_raws(work, [candidate])
    return True


def _write_raws(work: _Work, candidates: Sequence[Candidate]) -> None:
    columns = ("mention_id", "revision", "fetched_at", "source_id", "body")
    at = micros(work.at)
    rows = []
    for candidate in candidates:
        seen = candidate.seen
        row = work.rows[seen.network, seen.native_id]
        if seen.raw:
            rows.append((row.id, row.revision, at, work.source_id, _compress(seen.raw)))
    sql = insert_sql(raws, columns, work.connection.dialect.name == "sqlite", "ON CONFLICT DO NOTHING")
    run(work.connection, sql, rows)


def _write_sightings(work: _Work, wanted: Sequence[tuple[Candidate, MentionState]]) -> None:
    at = micros(work.at)
    rows = [(work.rows[c.seen.network, c.seen.native_id].id, work.source_id, at) for c, _ in wanted]
    columns = ("mention_id", "source_id", "seen_at")
    sql = insert_sql(sightings, columns, work.connection.dialect.name == "sqlite", "ON CONFLICT DO NOTHING")
    run(work.connection, sql, sorted(rows))


def _write_snapshots(work: _Work, wanted: Sequence[tuple[Candidate, MentionState]]) -> None:
    """Append the counts a network gave, and let the latest of them stand for the post."""
    columns = (
        "mention_id", "at", "source_id", "age_s", "likes", "reposts", "replies", "quotes", "bookmarks", "views", "server",
    )  # fmt: skip
    rows = []
    for candidate, _ in wanted:
        seen = candidate.seen
        if seen.counts.is_empty() or seen.kind == "repost":
            continue
        at = seen.counts_at or work.at
        row = work.rows[seen.network, seen.native_id]
        if row.state is M.DELETED:
            continue
        age = max(0, (at - row.posted_at) // timedelta(seconds=1))
        c = seen.counts
        rows.append(
            (row.id, micros(at), work.source_id, age, c.likes, c.reposts, c.replies, c.quotes, c.bookmarks, c.views,
             seen.counts_server)
        )  # fmt: skip
        if stands_for(age, c) > stands_for(row.age_s, row.counts):
            row.counts, row.age_s = replace(c, bookmarks=None), age
    sql = insert_sql(snapshots, columns, work.connection.dialect.name == "sqlite", "ON CONFLICT DO NOTHING")
    run(work.connection, sql, sorted(rows, key=lambda row: row[:3]))


# ── Authors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_authors(
    work: _Work, seen_authors: Sequence[Author], wanted: Sequence[tuple[Candidate, MentionState]]
) -> None:
    """Insert or refresh the authors of a page and keep their follower counts with their date."""
    told: dict[tuple[str, str], tuple[Author, datetime]] = {}
    for (candidate, _), author in zip(wanted, seen_authors, strict=True):
        told[candidate.seen.network, author.native_id] = (author, candidate.seen.counts_at or work.at)
    if not told:
        return
    held = _held_authors(work.connection, told)
    columns = ("network", "native_id", "handle", "name", "bot", "created_at", "may_be_named")
    sqlite = work.connection.dialect.name == "sqlite"
    run(
        work.connection,
        insert_sql(authors, columns, sqlite, "ON CONFLICT DO NOTHING"),
        [
            (network, author.native_id, _clean(author.handle), _clean(author.name), author.bot,
             micros(author.created_at) if author.created_at else None, author.may_be_named)
            for (network, _), (author, _) in told.items()
            if (network, author.native_id) not in held
        ],
    )  # fmt: skip
    for key, (author, _) in told.items():
        if key in held and (author.handle or author.name) and held[key][1:] != (author.handle, author.name):
            work.connection.execute(
                update(authors)
                .where(authors.c.id == held[key][0])
                .values(handle=_clean(author.handle or held[key][1]), name=_clean(author.name or held[key][2]))
            )
    if len(held) < len(told):
        held = _held_authors(work.connection, told)
    work.author_ids.update({key: row[0] for key, row in held.items()})
    columns = ("author_id", "at", "followers", "following", "posts", "source")
    run(
        work.connection,
        insert_sql(author_counts, columns, sqlite, "ON CONFLICT DO NOTHING"),
        [
            (work.author_ids[key], micros(at), author.followers, author.following, author.posts, key[0])
            for key, (author, at) in told.items()
            if author.followers is not None
        ],
    )


def _held_authors(
    connection: Connection, told: Mapping[tuple[str, str], object]
) -> dict[tuple[str, str], tuple[int, str, str]]:
    by_network: dict[str, list[str]] = {}
    for network, native_id in told:
        by_network.setdefault(network, []).append(native_id)
    query = select(authors.c.native_id, authors.c.id, authors.c.handle, authors.c.name).where(
        authors.c.network == bindparam("network"), authors.c.native_id.in_(bindparam("ids", expanding=True))
    )
    held: dict[tuple[str, str], tuple[int, str, str]] = {}
    for network, natives in by_network.items():
        for chunk in _chunks(natives):
            for native_id, row_id, handle, name in connection.execute(query, {"network": network, "ids": chunk}):
                held[network, native_id] = (row_id, handle, name)
    return held


def _mark_ours(work: _Work, candidates: Iterable[Candidate], ledger: Ledger) -> None:
    """Recognise our own accounts: by a receipt of ours, or by the handle in desk.toml."""
    seen = [c.seen for c in candidates if (c.seen.network, c.seen.native_id) in work.rows]
    ids = [s.native_id for s in seen]
    receipts: set[str] = set()
    for chunk in _chunks(ids):
        receipts.update(
            work.connection.execute(select(deliveries.c.remote_id).where(deliveries.c.remote_id.in_(chunk))).scalars()
        )
    for s in seen:
        handles = {(s.network, s.author.handle.lower()), (s.network, s.author.native_id.lower())}
        if s.native_id in receipts or handles & work.own_handles:
            ledger.ours(work.author_ids[s.network, s.author.native_id])


# ── Deletions ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _remove(work: _Work, removed: Sequence[Removed], ledger: Ledger) -> None:
    """Blank what its author took back: text, details and raw record go at once; the count stays in the totals."""
    for network in {r.network for r in removed}:
        ids = {r.native_id for r in removed if r.network == network}
        _load(work, network, ids)
        for native_id in sorted(ids):
            row = work.rows.get((network, native_id))
            if row is None or row.state is M.DELETED:
                continue
            before = _fact(network, row)
            row.state = M.DELETED
            work.connection.execute(
                update(mentions)
                .where(mentions.c.id == row.id)
                .values(state=M.DELETED, text="", details="{}", url="", spelling="", language_source="")
            )
            work.connection.execute(raws.delete().where(raws.c.mention_id == row.id))
            ledger.change(before, _fact(network, row))
            work.tally += Tally(1, 0, 0, 1, 0)


def _hide(work: _Work, accounts: Sequence[AccountChanged], ledger: Ledger) -> None:
    """Hide the mentions of an account that went away; show them again when it returns."""
    for change in accounts:
        author_id = work.connection.execute(
            select(authors.c.id).where(authors.c.network == change.network, authors.c.native_id == change.native_id)
        ).scalar()
        if author_id is None:
            continue
        state, to = (M.HIDDEN, M.COUNTED) if change.active else (M.COUNTED, M.HIDDEN)
        found = work.connection.execute(
            select(mentions.c.network, mentions.c.native_id).where(
                mentions.c.campaign_id == work.campaign_id, mentions.c.author_id == author_id, mentions.c.state == state
            )
        ).all()
        _load(work, change.network, [row.native_id for row in found])
        for network, native_id in found:
            row = work.rows[network, native_id]
            before = _fact(network, row)
            row.state, row.in_totals = to, to is M.COUNTED
            work.connection.execute(
                update(mentions).where(mentions.c.id == row.id).values(state=to, in_totals=row.in_totals)
            )
            ledger.change(before, _fact(network, row))


def _clean(words: str) -> str:
    """Drop NUL, which PostgreSQL refuses in text: one odd character must not cost a page."""
    return words.replace("\x00", "") if "\x00" in words else words


def _chunks(values: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(values), CHUNK):
        yield list(values[start : start + CHUNK])
