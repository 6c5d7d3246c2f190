"""The conversation: one door, every page whole or not at all, and rollups that are what the mentions say."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select, text

from shareasm.model import AccountChanged, Author, Counts, Hole, Receipt, Removed, Seen, Tally
from shareasm.store import Store
from shareasm.store.conversation import Candidate, Intake
from shareasm.store.rollups import rebuild
from shareasm.store.tables import authors, mentions, r_author, r_post, r_reach, r_share, r_time, raws, snapshots
from tests.stores import (
    CAMPAIGN,
    DAY,
    FOLDER,
    HOUR,
    MINUTE,
    HeldClock,
    a_post,
    empty_store,
    planned,
    sending,
)

TAG = "shareASM"
NOW = DAY + 6 * HOUR


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with empty_store(request.param, request, tmp_path) as store:
        yield store


def said(
    native_id: str,
    words: str = f"Gold without mercury #{TAG}",
    *,
    by: Author | str = "ama",
    told: bool = False,
    kind: str = "original",
    minute: int = 0,
    **more: Any,
) -> Candidate:
    """Return a post as a source shows it, judged by its hashtag."""
    author = by if isinstance(by, Author) else Author(by, handle=by)
    values = {"network": "mastodon", "language": "en", "posted_at": DAY + minute * MINUTE, **more}
    seen = Seen(native_id=native_id, author=author, kind=kind, text=words, **values)  # pyright: ignore[reportArgumentType]
    spelling = TAG if f"#{TAG}" in words and seen.public else ""
    return Candidate(seen, spelling, "en", "network", told)


def put(
    store: Store, *page: Candidate, at: datetime = NOW, server: str = "one.example", campaign: str = FOLDER, **more: Any
) -> Tally:
    """Take one page in, and hold the rollups against the mentions."""
    campaign_id = store.campaigns.id_of(campaign)
    source_id = store.sources.open(campaign_id, "mastodon", server, f"#{TAG}")
    own = more.pop("own_handles", frozenset())
    tally = store.conversation.put(campaign_id, source_id, Intake(page, **more), at=at, own_handles=own)
    assert not any(rebuild(store.database, campaign_id).values())
    return tally


def rows(store: Store, table, *columns) -> list[tuple[Any, ...]]:
    with store.database.read() as connection:
        return [
            tuple(row) for row in connection.execute(select(*(table.c[name] for name in columns or table.c.keys())))
        ]


def states(store: Store) -> dict[str, str]:
    return {str(native_id): str(state) for native_id, state in rows(store, mentions, "native_id", "state")}


# ── What counts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_post_with_the_hashtag_counts_once_however_often_it_is_seen(store: Store) -> None:
    assert put(store, said("1"), said("2"), said("1")) == Tally(3, 2, 1, 0, 0)
    assert put(store, said("1"), said("2")) == Tally(2, 0, 2, 0, 0)
    assert put(store, said("1"), server="two.example") == Tally(1, 0, 1, 0, 0)


def test_what_carries_no_hashtag_counts_only_on_a_persons_word(store: Store) -> None:
    assert put(store, said("1", "Good morning")).refused == 1
    assert put(store, said("1", "Good morning", told=True)).new == 1
    assert put(store, said("1", "Good morning", edited_at=DAY + MINUTE)) == Tally(1, 0, 0, 1, 0)
    assert states(store) == {"1": "counted"}


def test_a_post_that_is_not_public_is_refused_even_from_an_archive(store: Store) -> None:
    assert put(store, said("1", public=False, told=True)).refused == 1


def test_a_repost_counts_when_its_original_does(store: Store) -> None:
    put(store, said("1"))
    tally = put(
        store,
        said("r1", "RT Gold …", kind="repost", of_id="1", by="ben"),
        said("r9", "RT Something …", kind="repost", of_id="9", by="ben"),
    )
    assert (tally.new, tally.refused) == (1, 1)
    assert rows(store, r_time, "spoken", "reposts") == [(1, 1)]


def test_an_original_that_only_its_reposts_show_is_carried_with_its_counts(store: Store) -> None:
    original = said("1", counts=Counts(likes=7), counts_at=NOW)
    repost = said("r1", "RT Gold …", kind="repost", of_id="1", by="ben")
    put(store, repost, context=[original])
    assert states(store) == {"1": "carried", "r1": "counted"}
    put(store, original)
    assert states(store) == {"1": "counted", "r1": "counted"}
    assert rows(store, r_post, "likes") == [(7,)]


def test_answers_without_the_hashtag_are_conversation_in_whatever_order_they_stand(store: Store) -> None:
    page = [
        said("3", "And when?", kind="reply", of_id="2"),
        said("2", "Where?", kind="reply", of_id="1"),
        said("1"),
        said("4", "Elsewhere", kind="reply", of_id="0"),
    ]
    assert put(store, *page) == Tally(4, 3, 0, 0, 1)
    assert put(store, *page) == Tally(4, 0, 3, 0, 1)
    assert states(store) == {"1": "counted", "2": "conversation", "3": "conversation"}
    assert rows(store, r_time, "spoken", "conversation") == [(1, 2)]


def test_an_edit_that_takes_the_hashtag_away_lets_it_leave_and_no_older_version_brings_it_back(store: Store) -> None:
    put(store, said("1"))
    assert put(store, said("1", "Gold without mercury", edited_at=DAY + MINUTE)).changed == 1
    assert states(store) == {"1": "left"}
    assert put(store, said("1")) == Tally(1, 0, 1, 0, 0)
    assert states(store) == {"1": "left"}
    put(store, said("r", "RT …", kind="repost", of_id="1"))
    assert states(store) == {"1": "left"}
    put(store, said("1", edited_at=DAY + 2 * MINUTE))
    assert states(store) == {"1": "counted"}


def test_an_edit_that_adds_the_hashtag_lets_it_enter(store: Store) -> None:
    put(store, said("1"), said("2", "Where?", kind="reply", of_id="1"))
    put(store, said("2", f"Where? #{TAG}", kind="reply", of_id="1", edited_at=DAY + MINUTE))
    assert states(store) == {"1": "counted", "2": "counted"}


def test_an_edit_is_a_new_revision_with_its_own_raw_record(store: Store) -> None:
    put(store, said("1", raw=b"first"))
    put(store, said("1", f"Gold #{TAG}", raw=b"second", edited_at=DAY + MINUTE))
    put(store, said("1", raw=b"first"))
    assert rows(store, mentions, "text", "revision", "edited_at") == [(f"Gold #{TAG}", 2, DAY + MINUTE)]
    assert [revision for (revision,) in rows(store, raws, "revision")] == [1, 2]


# ── Deletions and people who go ──────────────────────────────────────────────────────────────────────────────────────


def test_what_its_author_deleted_is_blank_at_once_and_stays_so(store: Store) -> None:
    put(store, said("1", raw=b"raw", url="https://one.example/1", counts=Counts(likes=3), links=("https://a.example",)))
    assert put(store, removed=[Removed("mastodon", "1"), Removed("mastodon", "unknown")]).changed == 1
    put(store, said("1", raw=b"raw"), said("1", edited_at=DAY + MINUTE, told=True))
    blank = rows(store, mentions, "state", "text", "details", "url", "spelling", "in_totals")
    assert blank == [("deleted", "", "{}", "", "", True)]
    assert rows(store, raws) == []
    assert rows(store, r_share, "posts", "deleted", "likes") == [(1, 1, 3)]


def test_counts_that_come_with_the_deletion_itself_add_up(store: Store) -> None:
    put(store, said("1"), said("2"))
    page = [said("1", counts=Counts(likes=3)), said("2", counts=Counts(likes=5), by="ben")]
    put(store, *page, removed=[Removed("mastodon", "1")], accounts=[AccountChanged("mastodon", "ama", active=False)])
    assert states(store) == {"1": "deleted", "2": "hidden"}


def test_an_account_that_goes_hides_its_mentions_and_those_to_come_until_it_returns(store: Store) -> None:
    put(store, said("1"), said("2", by="ben"))
    put(
        store, accounts=[AccountChanged("mastodon", "ama", active=False), AccountChanged("mastodon", "x", active=False)]
    )
    put(store, said("3", told=True))
    assert states(store) == {"1": "hidden", "2": "counted", "3": "hidden"}
    assert [mention.native_id for mention in store.conversation.newest(store.campaigns.id_of(FOLDER))] == ["2"]
    put(store, accounts=[AccountChanged("mastodon", "ama", active=True)])
    assert set(states(store).values()) == {"counted"}


# ── Time, counts, people ─────────────────────────────────────────────────────────────────────────────────────────────


def test_of_two_servers_moments_the_earlier_stands_and_every_sum_moves_with_it(store: Store) -> None:
    put(store, said("1", minute=10, counts=Counts(likes=1), counts_at=NOW), said("2", minute=5))
    earlier = said("1", minute=10, counts=Counts(likes=2), counts_at=NOW - HOUR)
    put(store, replace(earlier, seen=replace(earlier.seen, posted_at=DAY - 20 * HOUR)), server="two.example")
    assert rows(store, r_author, "first_at", "last_at") == [(DAY - 20 * HOUR, DAY + 5 * MINUTE)]
    assert len(rows(store, r_share)) == len(rows(store, r_time)) == 2
    assert rows(store, r_post, "likes", "age_s") == [(1, 26 * 3_600)]


def test_a_moment_that_nobody_can_have_posted_at_is_the_one_at_which_it_was_seen(store: Store) -> None:
    absurd = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)]
    put(store, *(said(str(n), posted_at=at) for n, at in enumerate(absurd)))
    assert rows(store, mentions, "posted_at") == [(NOW,)] * 3


def test_of_two_counts_of_one_moment_the_greater_stands_in_either_order(store: Store) -> None:
    one, two = Counts(likes=5, views=1), Counts(likes=7)
    for name, order in (("a", (one, two)), ("b", (two, one))):
        for counts in order:
            put(store, said(name, counts=counts, counts_at=NOW))
    assert rows(store, snapshots, "likes", "views") == [(7, None), (7, None)]
    assert rows(store, r_post, "likes", "views") == [(7, None), (7, None)]


def test_unknown_is_never_zero(store: Store) -> None:
    put(store, said("1", counts=Counts(likes=0)), said("2"))
    assert rows(store, r_share, "posts", "likes", "n_likes", "n_replies") == [(2, 0, 1, 0)]
    assert rows(store, r_post, "likes", "replies") == [(0, None)]


def test_followers_told_later_count_though_nothing_else_changed(store: Store) -> None:
    def followed(n: int | None, at: datetime) -> Candidate:
        return said("1", by=Author("ama", followers=n), counts_at=at)

    put(store, followed(10, NOW - HOUR))
    put(store, followed(5, NOW))
    put(store, followed(99, NOW - 2 * HOUR))
    put(store, followed(None, NOW + HOUR))
    assert rows(store, r_author, "followers", "followers_at") == [(5, NOW)]
    assert rows(store, r_reach, "authors", "followers_sum", "followers_max") == [(1, 5, 5)]


def test_an_old_archive_renames_nobody_and_an_opt_out_stays(store: Store) -> None:
    new = Author("ama", "ama@one.example", "Ama", bot=True, created_at=DAY - 900 * HOUR, may_be_named=False)
    put(store, said("1", by=Author("ama", "ama", "Ama M."), counts_at=DAY))
    put(store, said("1", by=new, counts_at=NOW))
    put(store, said("1", by=Author("ama", "old", "Old"), counts_at=DAY - 9_000 * HOUR), said("2", by=Author("ama")))
    assert rows(store, authors, "handle", "name", "bot", "may_be_named") == [("ama@one.example", "Ama", True, False)]


def test_our_own_account_is_known_by_its_receipt_on_that_network_or_by_its_handle(store: Store) -> None:
    planned(store, a_post())
    clock = HeldClock()
    store.queue.confirm(sending(store, clock), "worker", Receipt("77"), clock)
    ours, theirs = said("77", by="desk", network="practice"), said("77", by="stranger", network="mastodon")
    mine = said("78", by=Author("did:plc:1", "Desk"), network="bluesky")
    put(store, ours, theirs, mine, own_handles=frozenset({("bluesky", "desk")}))
    assert sorted(rows(store, r_author, "network", "ours")) == [
        ("bluesky", True), ("mastodon", False), ("practice", True)
    ]  # fmt: skip


def test_ids_are_text_of_any_kind(store: Store) -> None:
    ids = ["9007199254740993", "9007199254740992", "01JY7WQ8Z3N5T6V8XABCDEFGHJ", "at://did:plc:1/app.bsky.feed.post/3k"]
    assert put(store, *map(said, ids)).new == 4
    assert sorted(states(store)) == sorted(ids)


# ── Hostile pages, crashes, many writers ─────────────────────────────────────────────────────────────────────────────


def test_nothing_that_a_stranger_posts_costs_a_page(store: Store) -> None:
    odd = "a\x00b\ud800c\ud83d\ude00"
    page = [
        said("good"),
        said("words", f"{odd} #{TAG}", url=odd, links=(odd,), by=Author("w", odd, odd), counts_server=odd),
        said("numbers", counts=Counts(10**30, -1, 3, None, 2**63, 2**64), by=Author("n", followers=2**64)),
        said("ties", kind="reply", of_id=odd, root_id="x" * 3_000, reply_to_id="y" * 3_000),
        said("x" * 3_000),
        said("id\x00"),
        said("", by="nobody"),
        replace(said("language"), language="l" * 900),
    ]
    assert put(store, *page).read == 8
    assert {"good", "words", "numbers", "ties", "language"} <= set(states(store))
    assert "id\x00" not in states(store)
    assert put(store, *page).new == 0
    held = {row[0]: row[1:] for row in rows(store, mentions, "native_id", "text", "of_native_id", "language")}
    assert held["words"][0] == f"ab�c😀 #{TAG}"
    assert held["ties"][1] == held["language"][2] == ""
    assert rows(store, r_post, "likes", "reposts", "replies", "views") == [(None, None, 3, None)]


def test_a_page_is_kept_whole_with_its_cursor_or_not_at_all(store: Store) -> None:
    put(store, said("1"), cursor="1")
    campaign_id = store.campaigns.id_of(FOLDER)
    source_id = store.sources.open(campaign_id, "mastodon", "one.example", f"#{TAG}")
    falls = Hole(datetime(2015, 6, 25), None, "a moment without a zone breaks the last step")  # noqa: DTZ001
    with pytest.raises(Exception, match="no time zone"):
        store.conversation.put(campaign_id, source_id, Intake([said("2")], cursor="2", holes=[falls]), at=NOW)
    assert (states(store), store.sources.cursor(source_id)) == ({"1": "counted"}, "1")
    assert not any(rebuild(store.database, campaign_id).values())


def test_a_page_costs_no_more_statements_when_it_has_more_rows(store: Store) -> None:
    counted: list[str] = []
    campaign_id = store.campaigns.id_of(FOLDER)
    source_id = store.sources.open(campaign_id, "mastodon", "one.example", f"#{TAG}")

    @event.listens_for(store.database.engine, "before_cursor_execute")
    def _count(_connection, _cursor, statement: str, *_rest: object) -> None:
        counted.append(statement)

    def cost(first: int, n: int) -> int:
        page = [
            said(f"p{i}", by=Author(f"a{i}", followers=i), counts=Counts(likes=i), raw=b"x", minute=i % 7)
            for i in range(first, first + n)
        ]
        counted.clear()
        assert store.conversation.put(campaign_id, source_id, Intake(page, cursor="c"), at=NOW).new == n
        return len(counted)

    small, large = cost(0, 10), cost(1_000, 400)
    assert small == large <= 25


def test_campaigns_that_hear_the_same_people_are_written_at_the_same_time(store: Store) -> None:
    names = [f"day-{n}" for n in range(4)]
    for name in names:
        store.campaigns.save(replace(CAMPAIGN, folder=name), DAY)

    def collect(name: str) -> None:
        order = range(40) if name < "day-2" else range(39, -1, -1)
        for page in range(5):
            campaign_id = store.campaigns.id_of(name)
            source_id = store.sources.open(campaign_id, "mastodon", "one.example", f"#{TAG}")
            at = NOW + page * 2 * HOUR
            people = [said(f"{page}.{n}", by=Author(f"a{n}", f"name {page}", followers=page)) for n in order]
            store.conversation.put(campaign_id, source_id, Intake(people), at=at)

    with ThreadPoolExecutor(4) as pool:
        for each in [pool.submit(collect, name) for name in names]:
            each.result()
    for name in names:
        assert rebuild(store.database, store.campaigns.id_of(name))["r_time"] == 0


def test_a_count_of_everything_beside_the_collector_disturbs_nothing(store: Store) -> None:
    campaign_id = store.campaigns.id_of(FOLDER)
    source_id = store.sources.open(campaign_id, "mastodon", "one.example", f"#{TAG}")

    def collect() -> None:
        for page in range(20):
            posts = [said(f"{page}.{n}", minute=page, counts=Counts(likes=n)) for n in range(20)]
            store.conversation.put(campaign_id, source_id, Intake(posts), at=NOW)

    with ThreadPoolExecutor(2) as pool:
        collecting = pool.submit(collect)
        while not collecting.done():
            assert not any(rebuild(store.database, campaign_id).values())
        collecting.result()
    assert rows(store, r_reach, "authors") == [(1,)]
    assert rows(store, r_author, "spoken") == [(400,)]


def test_a_campaign_that_moves_to_another_time_zone_has_other_days(store: Store) -> None:
    put(store, said("1", posted_at=datetime(2015, 6, 25, 2, tzinfo=UTC)))
    before = rows(store, r_share, "day")
    store.campaigns.save(replace(CAMPAIGN, time_zone="America/Lima"), DAY)
    assert rows(store, r_share, "day") == [(before[0][0] - 1,)]
    assert put(store, said("1")).known == 1


def test_a_rollup_that_was_spoilt_is_found_and_put_right(store: Store) -> None:
    put(store, said("1"))
    campaign_id = store.campaigns.id_of(FOLDER)
    with store.database.write() as connection:
        connection.execute(text("UPDATE r_time SET spoken = 9"))
    assert rebuild(store.database, campaign_id)["r_time"] > 0
    assert rows(store, r_time, "spoken") == [(1,)]


# ── Any history ──────────────────────────────────────────────────────────────────────────────────────────────────────

ANY = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NUMBERS = itertools.count(1)
PEOPLE = ("ama", "ben", "cleo")
KINDS = {"p0": "original", "p1": "reply", "p2": "repost", "p3": "quote", "p4": "original"}
counts = st.builds(Counts, *[st.none() | st.integers(0, 9)] * 4)


@st.composite
def posts(draw: st.DrawFn, *, always_tagged: bool = False) -> Candidate:
    """One post of five, in one of its versions, as some server shows it at some time."""
    name = draw(st.sampled_from(sorted(KINDS)))
    version = draw(st.integers(0, 2))
    is_tagged = always_tagged or (int(name[1]) + version) % 3 != 1
    author = PEOPLE[int(name[1]) % 3]
    return said(
        name,
        f"{name} in its version {version}" + (f" #{TAG}" if is_tagged else ""),
        by=Author(author, followers=draw(st.none() | st.integers(0, 9))),
        kind=KINDS[name],
        of_id="" if KINDS[name] == "original" else "p0",
        minute=draw(st.sampled_from([0, 1, 90])),
        edited_at=DAY + version * MINUTE if version else None,
        counts=Counts() if KINDS[name] == "repost" else draw(counts),
        counts_at=NOW - draw(st.integers(0, 2)) * HOUR,
        told=draw(st.booleans()) and not always_tagged,
    )


removals = st.sampled_from(sorted(KINDS)).map(lambda name: Removed("mastodon", name))
moves = st.builds(AccountChanged, st.just("mastodon"), st.sampled_from(PEOPLE), st.booleans())
some, few = st.lists(posts(), max_size=6), st.lists(posts(), max_size=2)
pages = st.tuples(some, few, st.lists(removals, max_size=1), st.lists(moves, max_size=1))


def another_campaign(store: Store) -> str:
    """Make a campaign of its own for each history, so that all can share one database."""
    name = f"history-{next(NUMBERS)}"
    store.campaigns.save(replace(CAMPAIGN, folder=name, time_zone="Pacific/Kiritimati"), DAY)
    return name


def of_its_own(candidate: Candidate, campaign: str) -> Candidate:
    """Return the post as one of people whom no other history knows."""
    author = candidate.seen.author
    return replace(
        candidate, seen=replace(candidate.seen, author=replace(author, native_id=author.native_id + campaign))
    )


@ANY
@given(history=st.lists(pages, max_size=5))
def test_whatever_happens_the_rollups_are_what_the_mentions_say_and_a_page_again_changes_nothing(
    store: Store, history: Sequence[Any]
) -> None:
    campaign = another_campaign(store)
    for seen, context, removed, moved in history:
        page = [of_its_own(candidate, campaign) for candidate in seen]
        beside = {
            "context": [of_its_own(candidate, campaign) for candidate in context],
            "removed": removed,
            "accounts": [replace(move, native_id=move.native_id + campaign) for move in moved],
        }
        put(store, *page, campaign=campaign, **beside)
        again = put(store, *page, campaign=campaign, **beside)
        assert (again.new, again.changed) == (0, 0)


def picture(store: Store, campaign: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a campaign's tables hold, without keys and orders of arrival."""
    c = store.campaigns.id_of(campaign)
    tables = {
        "mentions": "SELECT native_id, kind, state, posted_at, edited_at, text, language, spelling FROM mentions "
        "WHERE campaign_id = :c",
        "posts": "SELECT m.native_id, p.likes, p.reposts, p.replies, p.quotes, p.engagements, p.age_s FROM r_post p "
        "JOIN mentions m ON m.id = p.mention_id WHERE p.campaign_id = :c",
        "snapshots": "SELECT m.native_id, s.at, s.age_s, s.likes, s.reposts, s.replies, s.quotes FROM snapshots s "
        "JOIN mentions m ON m.id = s.mention_id WHERE m.campaign_id = :c",
        "authors": "SELECT a.handle, r.spoken, r.reposts, r.first_at, r.last_at, r.followers, r.followers_at, "
        "r.engagements FROM r_author r JOIN authors a ON a.id = r.author_id WHERE r.campaign_id = :c",
        "time": "SELECT minute, network, spoken, reposts, conversation FROM r_time WHERE campaign_id = :c",
        "share": "SELECT day, kind, language, posts, likes, replies, n_likes, n_counts FROM r_share "
        "WHERE campaign_id = :c",
        "reach": "SELECT network, authors, speaking, followers_sum, followers_max FROM r_reach WHERE campaign_id = :c",
    }
    with store.database.read() as connection:
        return {
            name: sorted((tuple(row) for row in connection.execute(text(query), {"c": c})), key=repr)
            for name, query in tables.items()
        }


@ANY
@given(data=st.data())
def test_the_same_posts_in_any_order_and_in_any_pages_give_the_same_tables(store: Store, data: st.DataObject) -> None:
    seen = data.draw(st.lists(posts(always_tagged=True), max_size=10))
    shuffled = data.draw(st.permutations(seen))
    cut = data.draw(st.integers(0, len(seen)))
    one, other = another_campaign(store), another_campaign(store)
    put(store, *(of_its_own(candidate, one) for candidate in seen), campaign=one)
    for part in (shuffled[:cut], shuffled[cut:]):
        put(store, *(of_its_own(candidate, other) for candidate in part), campaign=other)
    assert picture(store, one) == picture(store, other)
