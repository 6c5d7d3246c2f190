"""Peers, through the door: each file imported into both databases, and what the measures say of it.

The right answers stand in shared/data/README.md. The readers themselves are held in `test_twarc2.py` and
`test_jetstream.py`; the ties of `tweets.jsonl` wait for the measures of ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from shareasm import measure
from shareasm.collect import Imported, import_files
from shareasm.model import Campaign, WorldClock
from shareasm.store import Store, open_store
from shareasm.store.rollups import rebuild

CSV = "DocNow+twarc-csv/test-data"
NETWORK = "DocNow+twarc-network/test-data"
JETSTREAM = "bluesky-social+jetstream/internal/corpus/testdata"
START, END = datetime(2015, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


class Desk:
    """A store with one campaign, into which archives go."""

    def __init__(self, store: Store, data: Path) -> None:
        self.store = store
        self.data = data
        self.campaign = Campaign("old", "Old", ("kpop",), START, END, "UTC")
        self.id = store.campaigns.save(self.campaign, START)

    def take(self, *names: str) -> Imported:
        files = [self.data / name for name in names]
        return import_files(self.store, self.campaign, files, clock=WorldClock(), own_handles=frozenset())

    def value(self, name: str) -> Any:
        (result,) = measure.measure(self.store, "old", [name], now=datetime.now(UTC))
        return result.value

    def differing(self) -> set[int]:
        return set(rebuild(self.store.database, self.id).values())

    def table(self, query: str) -> list[Any]:
        with self.store.database.read() as connection:
            return sorted((tuple(row) for row in connection.execute(text(query))), key=repr)


@pytest.fixture
def desk(database_url: str, data: Path) -> Iterator[Desk]:
    store = open_store(database_url)
    yield Desk(store, data)
    store.close()


def told(done: Imported) -> tuple[int, int, int, int, int]:
    t = done.tally
    return t.read, t.new, t.known, t.changed, t.refused


def test_reposts_are_folded_to_their_originals(desk: Desk) -> None:
    assert told(desk.take(f"{CSV}/kpop.jsonl")) == (100, 100, 0, 0, 0)
    mentions, contributors, engagements = desk.value("mentions"), desk.value("contributors"), desk.value("engagements")
    assert (mentions["total"], mentions["original"], mentions["reposts"]) == (100, 22, 78)
    assert (contributors["total"], contributors["speaking"], contributors["only_reposting"]) == (87, 13, 74)
    assert (engagements["likes"], engagements["carried_in"]["likes"]) == (44_957, 44_954)
    assert (engagements["reposts"], engagements["replies"], engagements["quotes"]) == (20_914, 1_121, 1_333)
    assert (engagements["posts"], engagements["carried_in"]["posts"]) == (43, 21)
    assert desk.differing() == {0}


def test_the_same_file_twice_changes_nothing(desk: Desk) -> None:
    desk.take(f"{CSV}/kpop.jsonl")
    before = desk.table("SELECT * FROM mentions") + desk.table("SELECT * FROM r_share")
    assert told(desk.take(f"{CSV}/kpop.jsonl")) == (100, 0, 100, 0, 0)
    assert desk.table("SELECT * FROM mentions") + desk.table("SELECT * FROM r_share") == before


def test_flat_and_paged_are_the_same_hundred_posts(desk: Desk) -> None:
    assert told(desk.take(f"{CSV}/noflat.jsonl")) == (100, 100, 0, 0, 0)
    assert told(desk.take(f"{CSV}/flat.jsonl")) == (100, 0, 100, 0, 0)
    mentions, contributors, engagements = desk.value("mentions"), desk.value("contributors"), desk.value("engagements")
    assert [mentions[kind] for kind in ("original", "reply", "quote", "reposts")] == [14, 31, 8, 47]
    assert contributors["total"] == 96
    assert (engagements["likes"], engagements["posts"]) == (16_379, 83)
    assert sum(row.followers_sum for row in desk.store.figures.reach(desk.id)) == 205_622
    assert max(row.followers_max for row in desk.store.figures.reach(desk.id)) == 77_227
    assert desk.differing() == {0}


def test_flat_and_paged_make_equal_tables(database_url: str, data: Path, tmp_path: Path) -> None:
    tables = []
    for name, url in (("noflat", database_url), ("flat", f"sqlite:///{tmp_path / 'twin.db'}")):
        store = open_store(url)
        twin = Desk(store, data)
        twin.take(f"{CSV}/{name}.jsonl")
        columns = "native_id, kind, state, posted_at, text, language, of_native_id, root_native_id"
        tables.append(
            twin.table(f"SELECT {columns} FROM mentions")  # noqa: S608
            + twin.table("SELECT day, language, kind, posts, likes, n_counts FROM r_share")
        )
        store.close()
    assert len(tables[0]) == len(tables[1])
    assert tables[0] == tables[1]


def test_a_cut_last_line_is_reported_with_its_number_and_costs_nothing_else(desk: Desk) -> None:
    done = desk.take(f"{CSV}/streaming_output_with_error.jsonl")
    assert told(done) == (8, 7, 0, 0, 1)
    assert [line for _, line, _ in done.problems] == [8]
    mentions = desk.value("mentions")
    assert [mentions[kind] for kind in ("original", "reply", "quote", "reposts")] == [3, 3, 1, 0]
    assert desk.value("engagements")["likes"] == 0


def test_three_records_of_one_edited_post_are_one_mention(desk: Desk) -> None:
    desk.take(f"{CSV}/edited_before.jsonl", f"{CSV}/edited_after.jsonl", f"{CSV}/edited.jsonl")
    assert desk.value("mentions")["total"] == 1
    assert desk.table("SELECT count(*) FROM mentions WHERE text LIKE 'hey :)%'") == [(1,)]
    assert {27, 32} <= {likes for (likes,) in desk.table("SELECT likes FROM snapshots")}
    assert desk.differing() == {0}


def test_odd_shapes(desk: Desk) -> None:
    for name, posts in (("geo_tweets.jsonl", 2), ("many_urls.jsonl", 1), ("two_tweets.jsonl", 1), ("empty.json", 0)):
        assert desk.take(f"{CSV}/{name}").tally.new == posts
    compliance = desk.take(f"{CSV}/tweets_compliance.jsonl")
    assert (compliance.tally.new, compliance.tally.refused) == (0, 0)


def test_counts_are_a_cross_check_and_no_mentions(desk: Desk) -> None:
    done = desk.take(f"{CSV}/counts.jsonl")
    assert (len(done.counted), sum(one.posts for one in done.counted)) == (169, 771_665)
    assert desk.table("SELECT count(*) FROM mentions") == [(0,)]


def test_a_conversation_in_two_languages(desk: Desk) -> None:
    assert told(desk.take(f"{NETWORK}/tweets.jsonl")) == (500, 500, 0, 0, 0)
    mentions, contributors, engagements = desk.value("mentions"), desk.value("contributors"), desk.value("engagements")
    assert [mentions[kind] for kind in ("original", "reply", "quote", "reposts")] == [81, 35, 17, 367]
    assert (contributors["total"], contributors["speaking"], contributors["only_reposting"]) == (401, 94, 307)
    assert (engagements["likes"], engagements["posts"]) == (2_300_308, 264)
    assert sum(row.followers_sum for row in desk.store.figures.reach(desk.id)) == 1_299_871
    assert desk.differing() == {0}


def test_live_lines_of_bluesky_twice(desk: Desk) -> None:
    first = desk.take(f"{JETSTREAM}/expected_v1.jsonl")
    again = desk.take(f"{JETSTREAM}/expected_v1.jsonl")
    assert first.tally.new > 0
    assert (again.tally.new, again.tally.changed) == (0, 0)
    assert desk.differing() == {0}
