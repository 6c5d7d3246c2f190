"""Collecting: nothing lost, nothing doubled, and a gap with its reason wherever the desk cannot know."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from shareasm import collect, networks
from shareasm.collect import Listener, follow, import_files, judge, listen_on, listener, sweep
from shareasm.errors import ArchiveError, LoginNeeded, NetworkError, NoCredits, Refused, Unreachable
from shareasm.model import Author, Campaign, Counts, Hole, Page, Query, Removed, Seen, Tally
from shareasm.networks import Setting
from shareasm.networks.practice import open_practice, truth
from shareasm.store import Store
from shareasm.store.rollups import rebuild
from shareasm.text import TagRule
from tests.stores import CAMPAIGN, DAY, FOLDER, HOUR, MINUTE, SECOND, HeldClock, a_store, empty_store
from tests.test_archives import lines_of, x_page, x_post, x_repost, x_user
from tests.test_store import full_disk

RULE = TagRule.of(CAMPAIGN)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with empty_store(request.param, request, tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def seen(native_id: str, words: str = "Safety first #shareASM", **more: object) -> Seen:
    values = {"network": "scripted", "author": Author("ama"), "kind": "original", "posted_at": DAY - HOUR, **more}
    return Seen(native_id=native_id, text=words, **values)  # pyright: ignore[reportArgumentType]


class Scripted:
    """A source that shows what it is told to, and notes from where it was asked to go on."""

    network = "scripted"
    server = "scripted.example"

    def __init__(self, *visits: Sequence[Page | NetworkError]) -> None:
        self.visits = deque(visits)
        self.cursors: list[str | None] = []

    def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
        self.cursors.append(cursor)
        for page in self.visits.popleft() if self.visits else ():
            if isinstance(page, NetworkError):
                raise page
            yield page


def listens(store: Store, clock: HeldClock, *visits: Sequence[Page | NetworkError], owner: str = "one") -> Listener:
    return listener(store, CAMPAIGN, Scripted(*visits), clock=clock, owner=owner, own_handles=frozenset())


def state(store: Store) -> tuple[str, list[str]]:
    (source,) = store.sources.states(FOLDER)
    return source.state, [gap.why for gap in source.gaps]


class Waits:
    """Waiting that takes no time: notes how long it should have been, and says stop after so many."""

    def __init__(self, most: int) -> None:
        self.seconds: list[float] = []
        self.most = most

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)

    def stop(self) -> bool:
        return len(self.seconds) >= self.most


# ── Judging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "language", "source"),
    [("en-GB", "en", "network"), ("SW", "sw", "network"), ("", "en", "detected"), ("x" * 900, "en", "detected"),
     ("\x00\ud800", "en", "detected")],
)  # fmt: skip
def test_the_networks_language_stands_where_it_is_one(given: str, language: str, source: str) -> None:
    words = "The miners of the village told us today how they work without mercury #shareASM"
    candidate = judge(RULE, seen("1", words, language=given))
    assert (candidate.language, candidate.language_source) == (language, source)


def test_the_text_is_read_only_of_what_counts() -> None:
    words = "Les orpailleurs du village nous ont raconté leur journée de travail"
    assert judge(RULE, seen("1", words)).language == ""
    assert judge(RULE, seen("1", words), told=True).language == "fr"


def test_a_post_that_is_not_public_has_no_hashtag() -> None:
    assert judge(RULE, seen("1", public=False)).spelling == ""


# ── Sources ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sweep_keeps_each_page_with_its_cursor_and_the_next_one_goes_on_behind_it(
    store: Store, clock: HeldClock
) -> None:
    listen = listens(
        store, clock, [Page([seen("1"), seen("2")], cursor="a"), Page([seen("3")], cursor="b")], [Page(cursor="c")]
    )
    assert sweep(listen) == Tally(3, 3, 0, 0, 0)
    assert sweep(listen) == Tally()
    assert listen.source.cursors == [None, "b"]  # pyright: ignore[reportAttributeAccessIssue]
    assert store.sources.cursor(listen.source_id) == "c"


def test_a_source_that_cannot_be_read_opens_one_gap_and_the_next_page_closes_it(store: Store, clock: HeldClock) -> None:
    down = Unreachable("No answer.", network="scripted")
    listen = listens(store, clock, [Page(complete_until=DAY)], [down], [down], [Page(complete_until=DAY + 5 * MINUTE)])
    sweep(listen)
    assert state(store) == ("complete", [])
    for _ in range(2):
        clock.go(MINUTE)
        with pytest.raises(Unreachable):
            sweep(listen)
    assert state(store) == ("gap open", ["scripted: No answer."])
    clock.go(3 * MINUTE)
    sweep(listen)
    assert state(store) == ("complete", [])
    (gap,) = store.sources.gaps(FOLDER)
    assert (gap.from_at, gap.to_at, gap.closed_at) == (DAY, DAY + 5 * MINUTE, DAY + 5 * MINUTE)


def test_a_hole_that_the_source_itself_reports_stays_open(store: Store, clock: HeldClock) -> None:
    hole = Hole(DAY - HOUR, DAY, "Its window is shorter than the outage.")
    sweep(listens(store, clock, [Page(holes=[hole], complete_until=DAY), Page(complete_until=DAY)]))
    assert state(store) == ("gap open", ["Its window is shorter than the outage."])


@pytest.mark.parametrize("error", [LoginNeeded("Who are you?"), NoCredits("Pay first."), Refused("Not here.")])
def test_a_source_that_needs_a_person_is_stopped_and_given_free(
    store: Store, clock: HeldClock, error: NetworkError
) -> None:
    waits = Waits(5)
    listen_on(listens(store, clock, [Page([seen("1")])], [error]), waits.stop, waits)
    assert (state(store)[0], len(waits.seconds)) == ("stopped", 1)
    assert store.sources.lease(store.sources.states()[0].id, "two", DAY, DAY + MINUTE)


def test_a_source_that_fails_is_asked_again_more_and_more_slowly_and_quickly_after_it_spoke(
    store: Store, clock: HeldClock
) -> None:
    down = [Unreachable("No answer.")]
    waits = Waits(10)
    listen_on(listens(store, clock, *[down] * 8, [Page([seen("1")]), *down], down), waits.stop, waits)
    wanted = [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]
    assert all(0.75 * w <= seconds <= 1.25 * w for w, seconds in zip(wanted, waits.seconds, strict=True)), waits.seconds


def test_a_source_that_closes_without_a_word_is_asked_again_too(store: Store, clock: HeldClock) -> None:
    waits = Waits(3)
    listen = listens(store, clock, [Page([seen("1")], cursor="1")], [], [Page([seen("2")], cursor="2")])
    listen_on(listen, waits.stop, waits)
    assert listen.source.cursors == [None, "1", "1"]  # pyright: ignore[reportAttributeAccessIssue]
    assert store.sources.cursor(listen.source_id) == "2"


def test_of_two_collectors_one_reads_and_the_other_takes_over_when_it_is_silent(store: Store, clock: HeldClock) -> None:
    first = listens(store, clock, [Page([seen("1")], cursor="1")])
    second = listens(store, clock, [Page([seen("2")])], [Page([seen("2")])], owner="two")
    assert sweep(first).new == 1
    assert sweep(second) == Tally()
    clock.go(collect.LEASE + SECOND)
    assert sweep(second).new == 1


def test_other_hashtags_than_before_leave_a_gap_behind_them(store: Store, clock: HeldClock) -> None:
    sweep(listens(store, clock, [Page(complete_until=DAY)]))
    store.sources.open(store.campaigns.id_of(FOLDER), "scripted", "scripted.example", "#shareASM OR #ASMday")
    sweep(listens(store, clock, [Page(complete_until=DAY)]))
    assert all("only afterwards" in why for why in state(store)[1])
    assert state(store)[0] == "gap open"


def test_a_walk_that_is_dropped_between_two_pages_goes_on_there(store: Store, clock: HeldClock) -> None:
    first = [Page([seen("1")], cursor="1"), Page([seen("2")], cursor="2"), Page([seen("3")], cursor="3")]
    listen = listens(store, clock, first, [Page([seen("2")], cursor="2"), Page([seen("3")], cursor="3")])
    walk = follow(listen, live=False)
    assert next(walk).new == 1
    walk.close()
    assert sweep(listen) == Tally(2, 2, 0, 0, 0)
    assert listen.source.cursors == [None, "1"]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_day_on_the_practice_network_with_a_collector_that_dies_is_complete(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    clock.at = DAY - 2 * HOUR
    open_practice(tmp_path, hashtag="shareASM", start=CAMPAIGN.start, end=CAMPAIGN.end, audience=60)
    setting = Setting("practice", "ours", "", "desk", tmp_path, clock, lambda _field: "")
    steps = 0
    while clock.at < DAY + HOUR:
        clock.go(10 * MINUTE)
        source = networks.network("practice").open_source(setting)  # a new process, each time
        listen = listener(store, CAMPAIGN, source, clock=clock, owner="one", own_handles=frozenset())
        walk = follow(listen, live=False)
        for _ in walk:
            steps += 1
            if steps % 3 == 0:
                walk.close()
                break
    source = networks.network("practice").open_source(setting)
    sweep(listener(store, CAMPAIGN, source, clock=clock, owner="one", own_handles=frozenset()))
    held = truth(tmp_path, hashtags=["shareASM"])
    campaign_id = store.campaigns.id_of(FOLDER)
    assert not any(rebuild(store.database, campaign_id).values())
    assert counted_kinds(store, campaign_id) == dict(held.kinds)
    assert held.mentions > 20


def counted_kinds(store: Store, campaign_id: int) -> dict[str, int]:
    query = text("SELECT kind, count(*) FROM mentions WHERE campaign_id = :c AND in_totals GROUP BY kind")
    with store.database.read() as connection:
        return {kind: n for kind, n in connection.execute(query, {"c": campaign_id})}


def test_listening_outlives_a_full_disk_and_reads_on_where_it_was(tmp_path: Path, clock: HeldClock) -> None:
    url = f"sqlite:///{tmp_path / 'desk.db'}"
    a_store(url).close()
    pages = [Page([seen(f"{p}.{n}", "long " * 100 + "#shareASM") for n in range(50)], cursor=str(p)) for p in range(3)]
    with full_disk():
        store = a_store(url)
        waits = Waits(3)
        listen_on(listens(store, clock, pages, pages, pages), waits.stop, waits)
        assert len(waits.seconds) == 3
        store.close()
    store = a_store(url)
    assert store.conversation.newest(store.campaigns.id_of(FOLDER)) == []
    clock.go(MINUTE)
    assert sweep(listens(store, clock, pages)).new == 150
    store.close()


def test_a_listener_stops_when_it_is_told(store: Store, clock: HeldClock) -> None:
    stopping = threading.Event()

    class Endless(Scripted):
        def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
            for number in range(1_000_000):
                if number == 5:
                    stopping.set()
                yield Page(cursor=str(number))

    listen = listener(store, CAMPAIGN, Endless(), clock=clock, owner="one", own_handles=frozenset())
    listen_on(listen, stopping.is_set, stopping.wait)
    assert store.sources.cursor(listen.source_id) == "5"


# ── Archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def imported(store: Store, clock: HeldClock, *files: Path, campaign: Campaign = CAMPAIGN) -> collect.Imported:
    return import_files(store, campaign, files, clock=clock, own_handles=frozenset())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A twarc2 file: two posts of one author, a repost with its original beside it, and a broken line."""
    page = x_page(
        x_post("100"), x_post("9007199254740993", text="No hashtag here", entities=None), x_repost("200", "300"),
        tweets=[x_post("300", author_id="9")], users=[x_user(), x_user("8", "relayer"), x_user("9", "far")],
    )  # fmt: skip
    file = tmp_path / "kept.jsonl"
    file.write_bytes(lines_of(page) + b'{"data": [{"id": \n')
    return file


def test_an_import_counts_every_public_post_and_lists_what_is_broken(
    store: Store, clock: HeldClock, archive: Path
) -> None:
    clock.at = datetime(2026, 1, 1, tzinfo=DAY.tzinfo)
    done = imported(store, clock, archive)
    assert done.format == "twarc2"
    assert (done.tally.read, done.tally.new, done.tally.refused) == (4, 3, 1)
    assert [(name, line) for name, line, _ in done.problems] == [(str(archive), 2)]
    assert state(store) == ("as imported", [])


def test_an_import_again_changes_nothing_and_live_and_import_meet_in_one_row(
    store: Store, clock: HeldClock, archive: Path
) -> None:
    clock.at = datetime(2026, 1, 1, tzinfo=DAY.tzinfo)
    live = seen(
        "100", "Gold from small mines, fairly #shareASM", network="x", counts=Counts(likes=9), counts_at=clock.at
    )
    sweep(listens(store, clock, [Page([live])]))
    first, second = imported(store, clock, archive).tally, imported(store, clock, archive).tally
    assert (first.new, first.known) == (2, 1)
    assert (second.new, second.changed, second.known) == (0, 0, 3)
    sweep(listens(store, clock, [Page([live])], owner="one"))
    campaign_id = store.campaigns.id_of(FOLDER)
    assert not any(rebuild(store.database, campaign_id).values())
    assert sum(counted_kinds(store, campaign_id).values()) == 3


def test_one_file_that_nobody_can_read_stops_all_before_any(
    store: Store, clock: HeldClock, archive: Path, tmp_path: Path
) -> None:
    other = tmp_path / "holiday.jpg"
    other.write_bytes(b"\xff\xd8\xff\xe0 no archive")
    with pytest.raises(ArchiveError):
        imported(store, clock, archive, other)
    assert store.sources.states(FOLDER) == []


def test_what_an_archive_says_was_deleted_is_blank(store: Store, clock: HeldClock) -> None:
    listen = listens(store, clock, [Page([seen("1"), seen("2")])], [Page(removed=[Removed("scripted", "1")])])
    sweep(listen)
    assert sweep(listen).changed == 1
    assert [mention.native_id for mention in store.conversation.newest(listen.campaign_id)] == ["2"]


def test_a_listener_of_a_campaign_that_nobody_synced_is_refused_in_words(store: Store, clock: HeldClock) -> None:
    with pytest.raises(Exception, match="knows no campaign"):
        listener(
            store, replace(CAMPAIGN, folder="x", name="x"), Scripted(), clock=clock, owner="o", own_handles=frozenset()
        )  # fmt: skip
