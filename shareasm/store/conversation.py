"""Conversation: the one door through which mentions come in, live or from an archive.

`put` keeps a page in one transaction: rows, sightings, raw records, snapshots, rollups and the cursor that stands
behind them. A crash leaves all of a page or nothing of it; a page that is read again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import zstandard
from sqlalchemy import Connection, bindparam, delete, select, update

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
from shareasm.store.engine import Database, hold_conversation, insert_sql, micros, run, storable
from shareasm.store.rollups import NO_COUNTS, Fact, Ledger, stands_for
from shareasm.store.tables import (
    author_counts,
    authors,
    campaigns,
    deliveries,
    hidden_authors,
    mentions,
    r_author,
    r_post,
    raws,
    sightings,
    snapshots,
)

CHUNK = 500
LONGEST_ID = 500
"""No network has longer ids, and an index of PostgreSQL takes 2,704 bytes."""
MOST = 10**12
"""A larger count is nobody's: it is kept as unknown, and no sum of counts can overflow."""
FIRST_POST = datetime(2000, 1, 1, tzinfo=UTC)
"""Nobody posted before: an earlier moment is absurd, and the moment at which the post was first seen stands for it."""
SAME_NAME_FOR = timedelta(hours=1)
"""How long a name that was told again and did not change is not written down again."""
_compress = zstandard.ZstdCompressor(level=3).compress

_T = TypeVar("_T")
M = MentionState
Key = tuple[str, str]
"""A network and the id that it gave: of a post, or of an author."""


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


@dataclass(slots=True)
class _Work:
    """What one page needs while it is taken in."""

    connection: Connection
    campaign_id: int
    source_id: int
    at: datetime
    zone: ZoneInfo
    own_handles: frozenset[tuple[str, str]]
    rows: dict[Key, _Row] = field(default_factory=dict)
    author_ids: dict[Key, int] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)

    @property
    def is_sqlite(self) -> bool:
        return self.connection.dialect.name == "sqlite"


@dataclass(frozen=True, slots=True)
class _Person:
    """An author as the database holds it."""

    id: int
    handle: str
    name: str
    bot: bool | None
    created_at: datetime | None
    may_be_named: bool
    told_at: datetime
    is_hidden: bool


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
            hold_conversation(connection, campaign_id)  # the rollups move by differences
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
    page = _sound(intake.candidates, work.at)
    named = {_key(candidate) for candidate in page}
    context = {_key(c): c for c in _sound(intake.context, work.at) if _key(c) not in named}
    _find(work, [*page, *context.values()])
    around = _Around(page, context)
    tally = Tally(len(intake.candidates), refused=len(intake.candidates) - len(page))
    for once in _rounds(page):
        tally += _take_once(work, once, around, ledger)
    _mark_ours(work, page, ledger)
    work.tally += tally


def _take_once(work: _Work, candidates: Sequence[Candidate], around: _Around, ledger: Ledger) -> Tally:
    """Take candidates of which each is another post."""
    states = _verdicts(work, candidates, around)
    wanted = [(candidate, states[_key(candidate)]) for candidate in candidates if _key(candidate) in states]
    carried: list[tuple[Candidate, MentionState]] = [(c, M.CARRIED) for c in _carried(wanted, around.context)]
    _write_authors(work, wanted + carried, ledger)
    new, changed = _write_rows(work, wanted, ledger)
    _write_rows(work, carried, ledger)
    return Tally(0, new, len(wanted) - new - changed, changed, len(candidates) - len(wanted))


class _Around:
    """What a page shows beside each of its posts: which carry the hashtag, which belong to the talk, the context."""

    def __init__(self, page: Sequence[Candidate], context: Mapping[Key, Candidate]) -> None:
        self.context = context
        self.joined = {_key(c) for c in page if _counts(c)}
        self.counting = self.joined | {key for key, c in context.items() if _counts(c)}


def _counts(candidate: Candidate) -> bool:
    return candidate.seen.public and bool(candidate.spelling or candidate.told)


def _key(candidate: Candidate) -> Key:
    return candidate.seen.network, candidate.seen.native_id


def _rounds(page: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return the page in rounds that name each post once: a later version is taken as if it came on a later page."""
    rounds: list[list[Candidate]] = []
    met: dict[Key, int] = {}
    for candidate in sorted(page, key=lambda c: c.seen.edited_at or FIRST_POST):
        key = _key(candidate)
        met[key] = times = met.get(key, 0) + 1
        if times > len(rounds):
            rounds.append([])
        rounds[times - 1].append(candidate)
    return rounds


def _sound(candidates: Sequence[Candidate], at: datetime) -> list[Candidate]:
    """Return the candidates as both databases can keep them. Any stranger may post what they cannot."""
    sound = (_mended(candidate, at) for candidate in candidates)
    return [candidate for candidate in sound if candidate is not None]


def _mended(candidate: Candidate, at: datetime) -> Candidate | None:
    """Return a candidate whose every value can be kept, or None when its ids cannot."""
    seen = candidate.seen
    author = seen.author
    ids = (seen.native_id, author.native_id)
    ties = (seen.of_id, seen.root_id, seen.reply_to_id, seen.quote_of_id)
    words = "".join(
        (*ids, *ties, author.handle, author.name, seen.text, seen.url, seen.counts_server, candidate.spelling)
    )
    if not all(ids):
        return None
    if storable(words) is not words or max(map(len, (*ids, *ties))) > LONGEST_ID:
        if any(len(one) > LONGEST_ID or storable(one) != one for one in ids):
            return None
        ties = tuple("" if len(one) > LONGEST_ID or storable(one) != one else one for one in ties)
        seen = replace(
            seen,
            of_id=ties[0], root_id=ties[1], reply_to_id=ties[2], quote_of_id=ties[3],
            text=storable(seen.text), url=storable(seen.url), counts_server=storable(seen.counts_server),
            author=replace(author, handle=storable(author.handle), name=storable(author.name)),
        )  # fmt: skip
        candidate = replace(candidate, seen=seen, spelling=storable(candidate.spelling))
    if not FIRST_POST <= seen.posted_at <= at:
        seen = replace(seen, posted_at=at)
    c, a = seen.counts, seen.author
    numbers = (c.likes, c.reposts, c.replies, c.quotes, c.bookmarks, c.views, a.followers, a.following, a.posts)
    told = tuple(map(_plausible, numbers))
    if told != numbers:
        author = replace(a, followers=told[6], following=told[7], posts=told[8])
        seen = replace(seen, counts=Counts(*told[:6]), author=author)
    if len(candidate.language) > 8:
        candidate = replace(candidate, language="", language_source="")
    return candidate if seen is candidate.seen else replace(candidate, seen=seen)


def _plausible(number: int | None) -> int | None:
    return number if number is None or 0 <= number < MOST else None


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
    """Load these posts, but for those at hand: what this page changed of them is not all in the database yet."""
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
    for chunk in _chunks(sorted(i for i in ids if (network, i) not in work.rows)):
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


def _verdicts(work: _Work, candidates: Sequence[Candidate], around: _Around) -> dict[Key, MentionState]:
    """Return the state of each post that is part of the conversation, whatever their order in the page."""
    states: dict[Key, MentionState] = {}
    grows = True
    while grows:  # an answer may stand before the answer that it answers
        grows = False
        for candidate in candidates:
            key = _key(candidate)
            state = None if key in states else _verdict(work, candidate, around)
            if state is not None:
                states[key] = state
                around.joined.add(key)
                grows = grows or state is M.CONVERSATION
    return states


def _verdict(work: _Work, candidate: Candidate, around: _Around) -> MentionState | None:
    """Return the state in which this post is kept; None when it is no part of the conversation.

    A repost counts when its original does. An answer without the hashtag, in a thread that we hold, is conversation.
    What is held stays as it is when it is met again.
    """
    seen = candidate.seen
    if not seen.public:
        return None
    if _counts(candidate):
        return M.COUNTED
    held = work.rows.get(_key(candidate))
    if seen.kind == "repost":
        if _is_mention(work, (seen.network, seen.of_id), around):
            return M.COUNTED
    elif held is not None and held.state is M.COUNTED and held.spelling and _is_newer(seen, held):
        return M.LEFT  # what never carried the hashtag, and counts on a person's word, cannot lose it
    elif _is_in_a_thread(work, seen, around):
        return M.CONVERSATION
    return None if held is None else held.state


def _is_mention(work: _Work, key: Key, around: _Around) -> bool:
    held = work.rows.get(key)
    was_one = held is not None and (held.in_totals or (held.spelling != "" and held.state is not M.LEFT))
    return was_one or key in around.counting


def _is_in_a_thread(work: _Work, seen: Seen, around: _Around) -> bool:
    for native_id in {seen.of_id, seen.reply_to_id, seen.quote_of_id, seen.root_id} - {"", seen.native_id}:
        held = work.rows.get((seen.network, native_id))
        if held is not None and (held.in_totals or held.state in {M.HIDDEN, M.CONVERSATION}):
            return True
        if (seen.network, native_id) in around.joined:
            return True
    return False


def _is_newer(seen: Seen, row: _Row) -> bool:
    return seen.edited_at is not None and (row.edited_at is None or seen.edited_at > row.edited_at)


def _carried(wanted: Sequence[tuple[Candidate, MentionState]], context: Mapping[Key, Candidate]) -> list[Candidate]:
    """Return the originals that counted reposts carry in: their counts are known though nobody collected them."""
    ids = {(c.seen.network, c.seen.of_id) for c, state in wanted if state is M.COUNTED and c.seen.kind == "repost"}
    return [context[key] for key in sorted(ids & context.keys()) if context[key].seen.public]


def _write_rows(work: _Work, wanted: Sequence[tuple[Candidate, MentionState]], ledger: Ledger) -> tuple[int, int]:
    """Insert what is new, update what changed, and tell the ledger the difference. Return (new, changed)."""
    keys = [_key(candidate) for candidate, _ in wanted]
    before = {key: replace(work.rows[key]) for key in keys if key in work.rows}
    _insert(work, [(candidate, state) for candidate, state in wanted if _key(candidate) not in before])
    changed = sum(_update(work, candidate, state) for candidate, state in wanted if _key(candidate) in before)
    _age_anew(work, [work.rows[key] for key, old in before.items() if work.rows[key].posted_at != old.posted_at])
    _write_sightings(work, keys)
    _write_snapshots(work, wanted)
    for key in keys:
        old, now = before.get(key), work.rows[key]
        if old != now:
            ledger.change(_fact(key[0], old) if old else None, _fact(key[0], now))
    return len(keys) - len(before), changed


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
    fresh = [(c, _shown(work, work.author_ids[c.seen.network, c.seen.author.native_id], state)) for c, state in fresh]
    run(
        work.connection,
        insert_sql(mentions, _MENTION_COLUMNS, work.is_sqlite),
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
        work.rows[_key(candidate)] = _Row(
            ids[_key(candidate)],
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
            NO_COUNTS,
            -1,
        )
    _write_raws(work, [candidate for candidate, _ in fresh])


def _mention(work: _Work, candidate: Candidate, state: MentionState) -> tuple[Any, ...]:
    seen = candidate.seen
    return (
        work.campaign_id, seen.network, seen.native_id, seen.kind, str(state), state is M.COUNTED,
        work.author_ids[seen.network, seen.author.native_id], micros(seen.posted_at), micros(work.at),
        micros(seen.edited_at) if seen.edited_at else None, seen.text, candidate.language,
        candidate.language_source, seen.of_id, seen.root_id, candidate.spelling, seen.url, _details(seen),
    )  # fmt: skip


def _details(seen: Seen) -> str:
    parts = {
        "tags": seen.tags, "links": seen.links, "media": seen.media, "mentions": seen.mentions,
        "reply_to": seen.reply_to_id, "quote_of": seen.quote_of_id,
    }  # fmt: skip
    return storable(json.dumps({key: value for key, value in parts.items() if value}, ensure_ascii=False))


def _shown(work: _Work, author_id: int, state: MentionState) -> MentionState:
    """Return the state in which a mention may be seen: not while its author's account is gone."""
    return M.HIDDEN if state is M.COUNTED and author_id in work.hidden else state


def _update(work: _Work, candidate: Candidate, state: MentionState) -> bool:
    """Take a newer version, a new state, or nothing. What its author deleted stays deleted.

    Return whether its words or its state changed. An earlier moment of posting is taken too, from whatever version and
    server it comes: so every order in which a post is seen ends in the same row.
    """
    seen = candidate.seen
    row = work.rows[_key(candidate)]
    if row.state is M.DELETED:
        return False
    before = replace(row)
    newer = _is_newer(seen, row)
    _move_state(work, row, candidate, state, is_older=not newer and seen.edited_at != row.edited_at)
    if newer:
        row.edited_at, row.text, row.revision = seen.edited_at, seen.text, row.revision + 1
    if candidate.spelling and (newer or not row.spelling):
        row.spelling = candidate.spelling
    if candidate.language and (newer or not row.language):
        row.language = candidate.language
    has_changed = row != before
    row.posted_at = min(row.posted_at, seen.posted_at)
    if row == before:
        return False
    values: dict[str, Any] = {
        name: getattr(row, name) for name in _CHANGING if getattr(row, name) != getattr(before, name)
    }
    if newer:
        values["details"] = _details(seen)
        _write_raws(work, [candidate])
    if "language" in values:
        values["language_source"] = candidate.language_source
    work.connection.execute(update(mentions).where(mentions.c.id == row.id).values(**values))
    return has_changed


_CHANGING = ("state", "in_totals", "edited_at", "text", "revision", "spelling", "language", "posted_at")


def _move_state(work: _Work, row: _Row, candidate: Candidate, state: MentionState, *, is_older: bool) -> None:
    """Move a mention to the state in which this version shows it; an older version takes no newer one back."""
    to = row.state
    if state is M.COUNTED and is_older:
        if row.state is M.CONVERSATION and candidate.spelling:
            to = M.LEFT  # it had the hashtag before the version that we hold
        elif row.state is M.CARRIED:
            to = _shown(work, row.author_id, M.COUNTED)
    elif state is M.COUNTED and row.state in {M.CARRIED, M.CONVERSATION, M.LEFT}:
        to = _shown(work, row.author_id, M.COUNTED)
    elif (state is M.LEFT and row.state is M.COUNTED) or (state is M.CONVERSATION and row.state is M.CARRIED):
        to = state
    row.state, row.in_totals = to, to is M.COUNTED


def _age_anew(work: _Work, rows: Sequence[_Row]) -> None:
    """Count the age of these mentions' snapshots from their new moment, and let the right one stand for each."""
    held = {row.id: row for row in rows if row.age_s >= 0}
    mark, greatest = ("?", "MAX") if work.is_sqlite else ("%s", "GREATEST")
    sql = f'UPDATE snapshots SET age_s = {greatest}(0, ("at" - {mark}) / 1000000) WHERE mention_id = {mark}'  # noqa: S608
    run(work.connection, sql, [(micros(row.posted_at), row.id) for row in held.values()])
    names = ("likes", "reposts", "replies", "quotes", "bookmarks", "views")
    query = select(snapshots.c.mention_id, snapshots.c.age_s, *(snapshots.c[name] for name in names))
    for row in held.values():
        row.age_s, row.counts = -1, Counts()
    for chunk in _chunks(sorted(held)):
        for found in work.connection.execute(query.where(snapshots.c.mention_id.in_(chunk))):
            _stand(held[found.mention_id], found.age_s, Counts(*found[2:]))


def _stand(row: _Row, age_s: int, counts: Counts) -> None:
    """Let the latest of a post's snapshots stand for it."""
    if stands_for(age_s, counts) > stands_for(row.age_s, row.counts):
        row.age_s, row.counts = age_s, counts if counts.bookmarks is None else replace(counts, bookmarks=None)


def _write_raws(work: _Work, candidates: Sequence[Candidate]) -> None:
    columns = ("mention_id", "revision", "fetched_at", "source_id", "body")
    at = micros(work.at)
    rows = []
    for candidate in candidates:
        seen = candidate.seen
        row = work.rows[seen.network, seen.native_id]
        if seen.raw:
            rows.append((row.id, row.revision, at, work.source_id, _compress(seen.raw)))
    sql = insert_sql(raws, columns, work.is_sqlite, "ON CONFLICT DO NOTHING")
    run(work.connection, sql, rows)


def _write_sightings(work: _Work, keys: Sequence[Key]) -> None:
    at = micros(work.at)
    sql = insert_sql(sightings, ("mention_id", "source_id", "seen_at"), work.is_sqlite, "ON CONFLICT DO NOTHING")
    run(work.connection, sql, sorted((work.rows[key].id, work.source_id, at) for key in keys))


def _write_snapshots(work: _Work, wanted: Sequence[tuple[Candidate, MentionState]]) -> None:
    """Append the counts a network gave, and let the latest of them stand for the post."""
    rows = []
    for candidate, _ in wanted:
        seen = candidate.seen
        row = work.rows[_key(candidate)]
        if seen.counts == NO_COUNTS or row.kind == "repost" or row.state is M.DELETED:
            continue
        at = seen.counts_at or work.at
        age = max(0, (at - row.posted_at) // timedelta(seconds=1))
        c = seen.counts
        rows.append(
            (row.id, micros(at), work.source_id, age, c.likes, c.reposts, c.replies, c.quotes, c.bookmarks, c.views,
             seen.counts_server)
        )  # fmt: skip
        _stand(row, age, c)
    run(
        work.connection,
        insert_sql(snapshots, _SNAPSHOT_COLUMNS, work.is_sqlite, _GREATER_STANDS),
        sorted(rows, key=itemgetter(0)),
    )


_SNAPSHOT_COLUMNS = (
    "mention_id", "at", "source_id", "age_s", "likes", "reposts", "replies", "quotes", "bookmarks", "views", "server",
)  # fmt: skip


def _ranked(table: str) -> str:
    return ", ".join(f"COALESCE({table}.{name}, -1)" for name in ("likes", "reposts", "replies", "quotes", "views"))


# A collection gives all its posts one moment: of two counts of one moment the greater stays, whichever comes first.
_GREATER_STANDS = (
    "ON CONFLICT (mention_id, at, source_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _SNAPSHOT_COLUMNS[4:])
    + f" WHERE ({_ranked('excluded')}) > ({_ranked('snapshots')})"
)


# ── Authors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _write_authors(work: _Work, wanted: Sequence[tuple[Candidate, MentionState]], ledger: Ledger) -> None:
    """Insert or refresh the authors of a page and keep their follower counts with their date."""
    told: dict[Key, tuple[Author, datetime]] = {}
    counted: dict[tuple[Key, datetime], Author] = {}
    for candidate, _ in wanted:
        author, at = candidate.seen.author, candidate.seen.counts_at or work.at
        key = (candidate.seen.network, author.native_id)
        if key not in told or at >= told[key][1]:
            told[key] = (author, at)
        if author.followers is not None:
            before = counted.get((key, at))
            if before is None or author.followers > (before.followers or 0):
                counted[key, at] = author
    if not told:
        return
    held = _held_authors(work, told)
    for key in sorted(held):  # in the order of the keys: two campaigns may write the same people at once
        _refresh_author(work.connection, held[key], *told[key])
    _insert_authors(work, {key: one for key, one in told.items() if key not in held})
    if len(held) < len(told):
        held |= _held_authors(work, told.keys() - held.keys())
    work.author_ids.update({key: person.id for key, person in held.items()})
    work.hidden.update(person.id for person in held.values() if person.is_hidden)
    columns = ("author_id", "at", "followers", "following", "posts", "source")
    more = ", ".join(f"{name} = excluded.{name}" for name in columns[2:])
    conflict = f"ON CONFLICT (author_id, at) DO UPDATE SET {more} WHERE excluded.followers > author_counts.followers"
    rows = [
        (work.author_ids[key], micros(at), author.followers, author.following, author.posts, key[0])
        for (key, at), author in counted.items()
    ]
    run(
        work.connection, insert_sql(author_counts, columns, work.is_sqlite, conflict), sorted(rows, key=lambda r: r[:2])
    )
    ledger.followers(row[0] for row in rows)


def _insert_authors(work: _Work, new: Mapping[Key, tuple[Author, datetime]]) -> None:
    columns = ("network", "native_id", "handle", "name", "bot", "created_at", "may_be_named", "told_at")
    run(
        work.connection,
        insert_sql(authors, columns, work.is_sqlite, "ON CONFLICT DO NOTHING"),
        [
            (network, native_id, author.handle, author.name, author.bot,
             micros(author.created_at) if author.created_at else None, author.may_be_named, micros(at))
            for (network, native_id), (author, at) in sorted(new.items(), key=lambda item: item[0])
        ],
    )  # fmt: skip


def _refresh_author(connection: Connection, person: _Person, author: Author, at: datetime) -> None:
    """Take what was told later; what nobody told stays. Who once asked not to be named is never named again."""
    later = at > person.told_at
    now = replace(
        person,
        handle=author.handle if author.handle and (later or not person.handle) else person.handle,
        name=author.name if author.name and (later or not person.name) else person.name,
        bot=author.bot if author.bot is not None and (later or person.bot is None) else person.bot,
        created_at=person.created_at or author.created_at,
        may_be_named=person.may_be_named and author.may_be_named,
    )
    if now == person and at - person.told_at < SAME_NAME_FOR:
        return
    values = {name: getattr(now, name) for name in ("handle", "name", "bot", "created_at", "may_be_named")}
    told_at = max(at, person.told_at)
    connection.execute(update(authors).where(authors.c.id == person.id).values(**values, told_at=told_at))


def _held_authors(work: _Work, keys: Iterable[Key]) -> dict[Key, _Person]:
    by_network: dict[str, list[str]] = {}
    for network, native_id in keys:
        by_network.setdefault(network, []).append(native_id)
    a, h = authors.c, hidden_authors.c
    query = (
        select(
            a.native_id, a.id, a.handle, a.name, a.bot, a.created_at, a.may_be_named, a.told_at, h.since.is_not(None)
        )
        .outerjoin(hidden_authors, (h.author_id == a.id) & (h.campaign_id == work.campaign_id))
        .where(a.network == bindparam("network"), a.native_id.in_(bindparam("ids", expanding=True)))
    )
    held: dict[Key, _Person] = {}
    for network, natives in by_network.items():
        for chunk in _chunks(sorted(natives)):
            for row in work.connection.execute(query, {"network": network, "ids": chunk}):
                held[network, row.native_id] = _Person(*row[1:])
    return held


def _mark_ours(work: _Work, page: Iterable[Candidate], ledger: Ledger) -> None:
    """Recognise our own accounts: by a receipt of ours, or by the handle in desk.toml."""
    held = [(c.seen, work.rows[_key(c)]) for c in page if _key(c) in work.rows]
    written: dict[str, list[str]] = {}
    for seen, _ in held:
        if seen.kind != "repost":
            written.setdefault(seen.network, []).append(seen.native_id)
    receipts: set[Key] = set()
    for network, natives in written.items():
        for chunk in _chunks(natives):
            query = select(deliveries.c.remote_id).where(
                deliveries.c.network == network, deliveries.c.remote_id.in_(chunk)
            )
            receipts.update((network, native_id) for native_id in work.connection.execute(query).scalars())
    for seen, row in held:
        network, author = seen.network, seen.author
        if (
            (network, seen.native_id) in receipts
            or (network, author.handle.lower()) in work.own_handles
            or (network, author.native_id.lower()) in work.own_handles
        ):
            ledger.ours(row.author_id)


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
    """Hide the mentions of an account that went away, those to come too; show them again when it returns."""
    known = _held_authors(work, {(change.network, change.native_id) for change in accounts})
    for change in accounts:
        person = known.get((change.network, change.native_id))
        if person is None:
            continue
        _keep_hidden(work, person.id, active=change.active)
        state, to = (M.HIDDEN, M.COUNTED) if change.active else (M.COUNTED, M.HIDDEN)
        mine = (
            mentions.c.campaign_id == work.campaign_id,
            mentions.c.author_id == person.id,
            mentions.c.state == state,
        )
        found = work.connection.execute(select(mentions.c.native_id).where(*mine)).scalars().all()
        _load(work, change.network, found)
        work.connection.execute(update(mentions).where(*mine).values(state=to, in_totals=to is M.COUNTED))
        for native_id in found:
            row = work.rows[change.network, native_id]
            before = _fact(change.network, row)
            row.state, row.in_totals = to, to is M.COUNTED
            ledger.change(before, _fact(change.network, row))


def _keep_hidden(work: _Work, author_id: int, *, active: bool) -> None:
    is_row = (hidden_authors.c.campaign_id == work.campaign_id, hidden_authors.c.author_id == author_id)
    work.connection.execute(delete(hidden_authors).where(*is_row))
    work.hidden.discard(author_id)
    if not active:
        columns = ("campaign_id", "author_id", "since")
        rows = [(work.campaign_id, author_id, micros(work.at))]
        run(work.connection, insert_sql(hidden_authors, columns, work.is_sqlite), rows)
        work.hidden.add(author_id)


def _chunks(values: Sequence[_T]) -> Iterator[list[_T]]:
    for start in range(0, len(values), CHUNK):
        yield list(values[start : start + CHUNK])
