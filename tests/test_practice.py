"""The practice network: one feed at any speed, nothing lost and nothing doubled, and an audience worth reading."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import regex

from shareasm.errors import ConfigError, Refused, Unreachable
from shareasm.model import (
    Absent,
    Found,
    Frozen,
    NotApplied,
    Page,
    Query,
    Receipt,
    Removed,
    Seen,
    Sent,
    Thread,
    Unknown,
    Wire,
)
from shareasm.networks import Account, Setting, Source, names, practice
from shareasm.networks.practice import FEED, Truth, open_practice, people, truth
from shareasm.text import count_graphemes, fold_tag
from tests.servers import ROOT

START = datetime(2015, 6, 24, 23, tzinfo=UTC)
END = START + timedelta(days=1)
QUERY = Query("2015-06-25-shareasm", ("shareASM", "shareASM2015"), START, END)
GROUPS = {"miner", "community", "government", "company", "researcher", "NGO", "donor", "media"}
OTHER_NETWORKS = {"twitter", "tweet", "bluesky", "bsky", "mastodon", "facebook", "instagram", "whatsapp", "linkedin"}
WORDS = [
    ("en", "Mercury-free gold: what works, and for whom? #shareASM"),
    ("sw", "Leo ni siku ya #shareASM. Wachimbaji, tushirikisheni kazi zenu."),
    ("es", "Hoy escuchamos a las mineras y a los mineros. #shareASM"),
    ("en", "Women in mining: whose names are on the licence? #shareASM"),
    ("fr", "La parole est aux orpailleurs aujourd'hui. #shareASM"),
]
TORN = b'{"seq":99999,"do":"post","at":"2015-06-25T0'


class HeldClock:
    """A clock that moves only when it is told to."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()


class Hall:
    """A rehearsal: one folder, one clock, our account and the public feed."""

    def __init__(self, folder: Path, clock: HeldClock | None = None, /, **options: object) -> None:
        self.folder = folder
        self.clock = clock or HeldClock()
        self.setting = Setting(
            "practice", "org-practice", "", "asm-desk", folder, self.clock, lambda _field: "", options=options
        )
        self.account: Account = practice.open_account(self.setting)
        self.source: Source = practice.open_source(self.setting)

    def wire(self, key: str, text: str = WORDS[0][1], language: str = "en", thread: Thread | None = None) -> Wire:
        frozen = Frozen("practice", "org-practice", text, language, 1, 1, self.clock.now(), key)
        return self.account.compose(frozen, thread, ())

    def post(self, key: str, text: str = WORDS[0][1], language: str = "en", thread: Thread | None = None) -> Receipt:
        outcome = self.account.send(self.wire(key, text, language, thread))
        assert isinstance(outcome, Sent), outcome
        return outcome.receipt

    def pages(self, cursor: str | None = None, query: Query = QUERY) -> list[Page]:
        return list(self.source.pages(query, cursor, live=False))

    def feed(self) -> bytes:
        return (self.folder / FEED).read_bytes()

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.feed().splitlines()]

    def play(self, step: timedelta, hours: float, posts_every: timedelta = timedelta(minutes=20)) -> list[Page]:
        """Let the day pass in steps, posting at the same moments whatever the step, and listen after each."""
        pages: list[Page] = []
        number = 0
        while self.clock.at <= START + timedelta(hours=hours):
            while START + timedelta(hours=7) + number * posts_every <= min(self.clock.at, END - timedelta(hours=4)):
                language, text = WORDS[number % len(WORDS)]
                self.post(f"key-{number}", f"{number + 1}. {text}", language)
                number += 1
            pages += self.pages(pages[-1].cursor if pages else None)
            self.clock.at += step
        return pages


class Kept:
    """What a collector that believes every page ends up with."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.posts: dict[str, Seen] = {}
        self.removed: set[str] = set()
        for page in pages:
            for seen in page.seen:
                self.posts[seen.native_id] = seen
            self.removed |= {removed.native_id for removed in page.removed}

    def recount(self, *tags: str) -> Truth:
        wanted = {fold_tag(tag) for tag in tags}
        spoken = {i for i, p in self.posts.items() if wanted & set(map(fold_tag, p.tags))}
        reposts = {i for i, p in self.posts.items() if p.kind == "repost" and p.of_id in spoken}
        standing = [self.posts[i].counts for i in spoken - self.removed]
        return Truth(
            mentions=len(spoken | reposts),
            kinds=Counter(self.posts[i].kind for i in spoken | reposts),
            languages=Counter(self.posts[i].language for i in spoken),
            contributors=len({self.posts[i].author.native_id for i in spoken | reposts}),
            ours=sum(p.author.handle == "asm-desk" for p in self.posts.values()),
            untagged=sum(p.kind != "repost" for p in self.posts.values()) - len(spoken),
            edited=sum(self.posts[i].edited_at is not None for i in spoken),
            deleted=len((spoken | reposts) & self.removed),
            likes=sum(c.likes or 0 for c in standing),
            reposts=sum(c.reposts or 0 for c in standing),
            replies=sum(c.replies or 0 for c in standing),
            quotes=sum(c.quotes or 0 for c in standing),
        )


def rows(pages: Sequence[Page]) -> list[Seen | Removed]:
    """All rows of these pages in order, what was taken away behind what was said: pages may be cut anywhere."""
    return [*(row for page in pages for row in page.seen), *(row for page in pages for row in page.removed)]


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hall, list[Page]]:
    """A whole day with 40 posts of ours, listened to every ten minutes."""
    hall = Hall(tmp_path_factory.mktemp("day"))
    return hall, hall.play(timedelta(minutes=10), 25)


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


# ── One feed ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_day_is_the_same_at_any_speed(tmp_path: Path) -> None:
    feeds = {}
    for seconds in (5, 60, 600):
        hall = Hall(tmp_path / str(seconds))
        hall.play(timedelta(seconds=seconds), 10)
        feeds[seconds] = hall.feed()
    assert feeds[5] == feeds[60] == feeds[600]
    assert feeds[5].count(b"\n") > 500


def test_seconds_or_minutes_make_no_difference(tmp_path: Path) -> None:
    slow, fast = Hall(tmp_path / "slow"), Hall(tmp_path / "fast")
    for hall in (slow, fast):
        hall.clock.at = START + timedelta(hours=9)
        hall.post("one")
    cursor = None
    for _ in range(1_200):
        slow.clock.at += timedelta(seconds=1)
        cursor = slow.pages(cursor)[-1].cursor
    fast.clock.at += timedelta(minutes=20)
    fast.pages()
    assert slow.feed() == fast.feed()


def test_restarts_change_nothing(tmp_path: Path) -> None:
    steady, restless = Hall(tmp_path / "steady"), Hall(tmp_path / "restless")
    steady.play(timedelta(minutes=10), 9)
    clock = HeldClock()
    for hour in range(1, 10):
        hall = Hall(tmp_path / "restless", clock)
        for number in range(3 * 3):
            due = START + timedelta(hours=7) + number * timedelta(minutes=20)
            if START + timedelta(hours=hour - 1) <= due < START + timedelta(hours=hour):
                clock.at = due
                language, text = WORDS[number % len(WORDS)]
                hall.post(f"key-{number}", f"{number + 1}. {text}", language)
        clock.at = START + timedelta(hours=hour)
        hall.pages()
    steady_posts = [line for line in steady.lines() if line["at"] < "2015-06-25T07:59"]  # type: ignore[operator]
    assert steady_posts == [line for line in restless.lines() if line["at"] < "2015-06-25T07:59"]  # type: ignore[operator]


def test_another_seed_is_another_day(tmp_path: Path) -> None:
    one, other = Hall(tmp_path / "one", seed=1), Hall(tmp_path / "other", seed=2)
    for hall in (one, other):
        hall.play(timedelta(hours=1), 9)
    assert one.feed() != other.feed()


def test_the_feed_is_in_order_of_time_and_number(day: tuple[Hall, list[Page]]) -> None:
    lines = [line for line in day[0].lines() if line["do"] not in ("opened", "account")]
    assert [line["seq"] for line in day[0].lines()] == list(range(1, len(day[0].lines()) + 1))
    moments = [datetime.fromisoformat(str(line["at"])) for line in lines]
    assert moments == sorted(moments)


def test_an_audience_invited_late_has_lived_all_the_same(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    hall.clock.at = START + timedelta(hours=9)
    receipt = hall.post("early")
    hall.clock.at += timedelta(hours=2)
    kept = Kept(hall.pages())
    assert kept.posts[receipt.remote_id].counts.likes
    assert min(post.posted_at for post in kept.posts.values()) < START + timedelta(hours=7)


def test_a_later_end_gives_the_audience_more_time(hall: Hall) -> None:
    hall.clock.at = END + timedelta(hours=10)
    before = len(Kept(hall.pages()).posts)
    longer = replace(QUERY, until=END + timedelta(hours=14))
    assert len(Kept(hall.pages(query=longer)).posts) > before


def test_an_audience_may_be_invited_before_anyone_listens(tmp_path: Path) -> None:
    for _ in range(2):
        open_practice(tmp_path, hashtag="#shareASM", start=START, end=END, seed="other", audience=40, mood="busy")
    hall = Hall(tmp_path)
    hall.pages()
    openings = [line["opening"] for line in hall.lines() if line["do"] == "opened"]
    assert len(openings) == 1
    assert isinstance(openings[0], dict)
    assert (openings[0]["seed"], openings[0]["hashtag"], openings[0]["pace"]) == ("other", "shareASM", 0.5)


def test_two_campaigns_share_the_people_and_not_the_talk(tmp_path: Path) -> None:
    hall = Hall(tmp_path)
    hall.clock.at = START + timedelta(hours=14)
    second = replace(QUERY, hashtags=("mineralsday",), since=START + timedelta(hours=2))
    first, other = Kept(hall.pages()), Kept(list(hall.source.pages(second, None, live=False)))
    assert not set(first.posts) & set(other.posts)
    assert {p.author.handle for p in first.posts.values()} & {p.author.handle for p in other.posts.values()}
    assert other.recount("mineralsday").mentions > 20


def test_an_endless_campaign_is_not_an_endless_audience(hall: Hall) -> None:
    endless = replace(QUERY, until=START + timedelta(days=4_000))
    hall.clock.at = START + timedelta(hours=9)
    hall.pages(query=endless)
    hall.pages(query=endless)
    assert [line["do"] for line in hall.lines()].count("opened") == 1


# ── Nothing lost, nothing doubled ────────────────────────────────────────────────────────────────────────────────────

IN_ANOTHER_PROCESS = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from tests.test_practice import HeldClock, Hall, QUERY

folder, at, key, break_after = Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), sys.argv[3], int(sys.argv[4])
real = os.write

def write(handle, data):
    if break_after < 0 or handle < 3:
        return real(handle, data)
    real(handle, bytes(data)[:break_after])
    os.kill(os.getpid(), signal.SIGKILL)

hall = Hall(folder, HeldClock(at))
os.write = write
print("ready", flush=True)
sys.stdin.readline()
for each in key.split():
    print(hall.post(each).remote_id)
if not key:
    hall.pages()
"""


def another_process(folder: Path, at: datetime, key: str = "", break_after: int = -1) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 — our own Python, our own words
        [sys.executable, "-c", IN_ANOTHER_PROCESS, str(folder), at.isoformat(), key, str(break_after)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("written", [0, 1, 300, 7_777])
def test_a_kill_in_the_middle_of_the_audience_changes_nothing(tmp_path: Path, written: int) -> None:
    undisturbed, hall = Hall(tmp_path / "undisturbed"), Hall(tmp_path / "killed")
    for each in (undisturbed, hall):
        each.clock.at = START + timedelta(hours=8)
        each.pages()
        each.post("ours")
        each.clock.at = START + timedelta(hours=11)
    process = another_process(hall.folder, hall.clock.at, break_after=written)
    process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    assert len(hall.feed()) > 0
    undisturbed.pages()
    hall.pages()
    assert hall.feed() == undisturbed.feed()


@pytest.mark.parametrize("written", [0, 40, 10_000])
def test_a_kill_in_the_middle_of_a_send_never_doubles_the_post(tmp_path: Path, written: int) -> None:
    hall = Hall(tmp_path)
    process = another_process(tmp_path, hall.clock.at, "ours", break_after=written)
    process.communicate("go\n")
    assert process.returncode == -signal.SIGKILL
    before = hall.account.look_up(hall.wire("ours"))
    assert isinstance(before, Found if written == 10_000 else Absent)
    receipt = hall.post("ours")
    assert isinstance(before, Absent) or before == Found(receipt)
    assert [line.get("key") for line in hall.lines() if line["do"] == "post"] == ["ours"]


def test_processes_with_the_same_keys_make_each_post_once(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(30)]
    processes = [another_process(tmp_path, START + timedelta(hours=8), " ".join(keys)) for _ in range(3)]
    assert [process.stdout and process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0].split() for process in processes]
    assert answers == [[f"practice:asm-desk/{number}" for number in range(1, 31)]] * 3
    assert [line["key"] for line in Hall(tmp_path).lines() if line.get("key")] == keys


def test_a_torn_last_line_is_cut_off_and_nothing_else(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=9)
    hall.pages()
    whole = hall.feed()
    (hall.folder / FEED).write_bytes(whole + TORN)
    again = Hall(hall.folder, hall.clock)
    assert truth(hall.folder).mentions == Kept(again.pages()).recount("shareASM").mentions
    assert hall.feed() == whole


def test_half_a_step_of_the_audience_is_lived_again(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=13)
    hall.pages()
    whole = hall.feed()
    lines = whole.splitlines(keepends=True)
    unfinished = max(number for number, line in enumerate(lines) if b'"left":' in line and b'"account"' not in line)
    (hall.folder / FEED).write_bytes(b"".join(lines[: unfinished + 1]))
    Hall(hall.folder, hall.clock).pages()
    assert hall.feed() == whole


def test_a_line_that_makes_no_sense_is_named(hall: Hall) -> None:
    hall.pages()
    whole = hall.feed()
    with (hall.folder / FEED).open("ab") as feed:
        feed.write(b"nonsense\n")
    with pytest.raises(Unreachable, match="makes no sense near byte"):
        hall.pages()
    assert isinstance(hall.account.send(hall.wire("a")), Unknown)
    (hall.folder / FEED).write_bytes(whole)
    assert isinstance(hall.account.send(hall.wire("a")), Sent)
    assert rows(hall.pages())


def test_a_full_disk_makes_no_post_and_no_lie(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    hall.post("before")
    whole = hall.feed()
    real = os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:50])

    with monkeypatch.context() as full:
        full.setattr(os, "write", half)
        assert isinstance(hall.account.send(hall.wire("during")), Unknown)
    assert hall.feed() == whole
    assert isinstance(hall.account.look_up(hall.wire("during")), Absent)
    assert hall.post("during").remote_id == "practice:asm-desk/2"


# ── Our account ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_practice_is_found_by_its_name() -> None:
    assert "practice" in names()


def test_a_used_key_brings_the_first_receipt_back(hall: Hall) -> None:
    first = hall.post("key")
    hall.clock.at += timedelta(days=400)
    assert hall.account.send(hall.wire("key")) == Sent(first)
    assert hall.account.look_up(hall.wire("key")) == Found(first)


def test_a_used_key_refuses_another_text(hall: Hall) -> None:
    first = hall.post("key")
    other = hall.wire("key", "Something else #shareASM")
    assert isinstance(hall.account.send(other), NotApplied)
    assert hall.account.look_up(other) == Found(first, same=False)


def test_what_was_taken_away_is_absent_and_never_comes_back(hall: Hall) -> None:
    receipt = hall.post("key")
    hall.account.delete(receipt)
    hall.account.delete(receipt)
    assert hall.account.look_up(hall.wire("key")) == Absent()
    assert isinstance(hall.account.send(hall.wire("key")), NotApplied)
    assert receipt.remote_id in Kept(hall.pages()).removed


def test_only_our_own_posts_can_be_taken_away(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=12)
    other = next(iter(Kept(hall.pages()).posts))
    with pytest.raises(Refused):
        hall.account.delete(Receipt(other))


def test_a_lost_answer_is_cleared_by_looking(tmp_path: Path) -> None:
    hall = Hall(tmp_path, faults=["lost_answer", "down"])
    wire = hall.wire("key")
    assert isinstance(hall.account.send(wire), Unknown)
    assert isinstance(hall.account.look_up(wire), Found)
    other = hall.wire("other")
    assert isinstance(hall.account.send(other), Unknown)
    assert hall.account.look_up(other) == Absent()
    assert isinstance(hall.account.send(other), Sent)


def test_rehearsed_refusals_say_what_they_are(tmp_path: Path) -> None:
    hall = Hall(tmp_path, faults=["refuse", "rate", "login", "money"])
    outcomes = [hall.account.send(hall.wire("key")) for _ in range(5)]
    assert [o.kind for o in outcomes if isinstance(o, NotApplied)] == ["content", "later", "account", "money"]
    assert isinstance(outcomes[4], Sent)


@pytest.mark.parametrize("options", [{"mood": "furious"}, {"audience": 3}, {"audience": "many"}, {"faults": ["storm"]}])
def test_a_wish_that_makes_no_sense_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Hall(tmp_path, None, **options)


@pytest.mark.parametrize("text", ["", " ", "x" * 501])
def test_a_text_that_does_not_fit_is_refused(hall: Hall, text: str) -> None:
    assert isinstance(hall.account.send(hall.wire("key", text)), NotApplied)


def test_a_thread_hangs_together(hall: Hall) -> None:
    head = hall.post("one")
    second = hall.post("two", "and the second part", thread=Thread(head, head))
    third = hall.post("three", "and the third", thread=Thread(second, head))
    posts = Kept(hall.pages()).posts
    assert posts[third.remote_id].reply_to_id == second.remote_id
    assert posts[third.remote_id].root_id == head.remote_id
    assert posts[third.remote_id].kind == "reply"


def test_a_reply_to_what_is_not_there_is_refused(hall: Hall) -> None:
    nowhere = Receipt("practice:asm-desk/99")
    assert isinstance(hall.account.send(hall.wire("key", thread=Thread(nowhere, nowhere))), NotApplied)


# ── Listening ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_truth_is_what_a_believing_reader_counts(day: tuple[Hall, list[Page]]) -> None:
    hall, pages = day
    assert Kept(pages).recount("shareASM") == truth(hall.folder)
    assert Kept(pages).recount("shareASM", "shareASM2015") == truth(hall.folder, hashtags=QUERY.hashtags)


def test_reading_late_gives_the_same_rows(day: tuple[Hall, list[Page]]) -> None:
    hall, pages = day
    late = Hall(hall.folder, hall.clock)
    assert rows(late.pages()) == rows(pages)


def test_every_cursor_resumes_exactly(day: tuple[Hall, list[Page]]) -> None:
    hall, _ = day
    pages = hall.pages()
    for number in range(0, len(pages), 23):
        again = Hall(hall.folder, hall.clock)
        assert rows(again.pages(pages[number].cursor)) == rows(pages[number + 1 :])
    assert rows(Hall(hall.folder, hall.clock).pages(pages[-1].cursor)) == []


def test_no_page_is_long_or_names_a_post_twice(day: tuple[Hall, list[Page]]) -> None:
    for page in day[1]:
        ids = [row.native_id for row in (*page.seen, *page.removed)]
        assert len(ids) == len(set(ids)) <= 500


def test_pages_break_and_resume_inside_a_crowded_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hall = Hall(tmp_path, mood="busy")
    hall.clock.at = START + timedelta(hours=12)
    whole = hall.pages()
    monkeypatch.setattr("shareasm.networks.practice.source.PAGE_ROWS", 3)
    small = Hall(tmp_path, hall.clock).pages()
    assert rows(small) == rows(whole)
    inside = [number for number, page in enumerate(small) if "." in (page.cursor or "")]
    assert inside
    for number in inside[:3]:
        assert rows(Hall(tmp_path, hall.clock).pages(small[number].cursor)) == rows(small[number + 1 :])


def test_counts_grow_with_time(day: tuple[Hall, list[Page]]) -> None:
    ours = [s for page in day[1] for s in page.seen if s.native_id == "practice:asm-desk/3"]
    likes = [seen.counts.likes or 0 for seen in ours]
    assert likes == sorted(likes)
    assert likes[0] == 0
    assert likes[-1] >= 5
    moments = [seen.counts_at for seen in ours if seen.counts_at]
    assert all(b - a >= timedelta(minutes=9) for a, b in pairwise(moments[1:]))


def test_completeness_follows_the_clock(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=10, seconds=7)
    last = hall.pages()[-1].complete_until
    assert last == START + timedelta(hours=10)
    hall.clock.at = END + timedelta(days=3)
    assert hall.pages()[-1].complete_until == hall.clock.at


def test_listening_live_goes_on_while_the_clock_stands_still(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=10)
    pages: Iterator[Page] = hall.source.pages(QUERY, None, live=True)
    page = next(pages)
    while page.seen or page.removed or page.complete_until != hall.clock.at:
        page = next(pages)
    quiet = next(pages)
    assert quiet.cursor == page.cursor
    assert not rows([quiet])
    receipt = hall.post("ours")
    assert receipt.remote_id in [row.native_id for row in rows([next(pages)])]


def test_nobody_is_shown_what_is_yet_to_come(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=12)
    everything = rows(hall.pages())
    hall.clock.at = START + timedelta(hours=9)
    again = Hall(hall.folder, hall.clock)
    first = again.pages()
    assert max(row.posted_at for row in rows(first) if isinstance(row, Seen)) <= hall.clock.at
    hall.clock.at = START + timedelta(hours=12)
    assert rows([*first, *again.pages(first[-1].cursor)]) == everything


def test_a_feed_begun_anew_is_said_and_read_from_its_first_line(hall: Hall) -> None:
    hall.clock.at = START + timedelta(hours=12)
    cursor = hall.pages()[-1].cursor
    (hall.folder / FEED).unlink()
    hall.clock.at = START + timedelta(hours=11)
    pages = hall.pages(cursor)
    assert [hole.why for page in pages for hole in page.holes] == [
        "The practice feed was begun anew: it is read again from its first line."
    ]
    assert Kept(pages).recount("shareASM").mentions == truth(hall.folder).mentions > 0


def test_a_cursor_that_is_no_place_is_named(hall: Hall) -> None:
    with pytest.raises(Unreachable, match="no place"):
        hall.pages("yesterday")


# ── The audience ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_day_has_the_size_and_the_shares_of_a_day(day: tuple[Hall, list[Page]]) -> None:
    held = truth(day[0].folder)
    assert 550 <= held.mentions <= 950
    assert 0.3 <= held.kinds["repost"] / held.mentions <= 0.5
    assert min(held.kinds[kind] for kind in ("original", "reply", "quote")) >= 35
    assert held.contributors >= 120
    assert held.untagged >= 30
    assert held.edited >= 2
    assert held.deleted >= 2
    assert held.likes > 1_000


def test_every_language_and_every_group_is_heard(day: tuple[Hall, list[Page]]) -> None:
    held = truth(day[0].folder)
    assert {"en", "es", "fr", "sw", "hi", "am"} <= set(held.languages)
    assert min(held.languages[language] for language in ("en", "es", "fr", "sw")) >= 20
    rows_of_people = people(day[0].folder)
    assert {person.group for person in rows_of_people} == GROUPS
    speakers = {seen.author.handle for page in day[1] for seen in page.seen}
    assert {person.group for person in rows_of_people if person.account in speakers} == GROUPS


def test_some_accounts_never_said_who_they_are(day: tuple[Hall, list[Page]]) -> None:
    declared = {person.account for person in people(day[0].folder)}
    speaking = {seen.author.handle for page in day[1] for seen in page.seen} - {"asm-desk"}
    assert 10 <= len(speaking - declared) <= 60


def test_the_people_are_known_before_the_day(tmp_path: Path) -> None:
    before = people(tmp_path)
    open_practice(tmp_path, hashtag="shareASM", start=START, end=END)
    assert people(tmp_path) == before
    assert len(before) > 100


def test_the_talk_does_not_repeat_itself(day: tuple[Hall, list[Page]]) -> None:
    texts = Counter(
        regex.sub(r"[#@]\S+|https?://\S+", "", post.text).strip()
        for post in Kept(day[1]).posts.values()
        if post.kind in ("original", "quote") and post.author.handle != "asm-desk"
    )
    originals = sum(texts.values())
    assert texts.most_common(1)[0][1] <= 5
    assert len(texts) >= 0.9 * originals


def test_every_text_fits_and_no_place_is_left_open(day: tuple[Hall, list[Page]]) -> None:
    for post in Kept(day[1]).posts.values():
        assert count_graphemes(post.text) <= practice.LIMITS.text
        assert "{" not in post.text


def test_it_says_of_everyone_that_this_is_practice(day: tuple[Hall, list[Page]]) -> None:
    posts = Kept(day[1]).posts.values()
    assert {post.network for post in posts} == {"practice"}
    assert all(post.author.handle.endswith(".practice") for post in posts if post.author.handle != "asm-desk")
    assert all(post.native_id.startswith("practice:") for post in posts)
    assert not [word for word in OTHER_NETWORKS if word in day[0].feed().decode().casefold()]


def test_every_address_is_one_that_cannot_exist(day: tuple[Hall, list[Page]]) -> None:
    hosts = {regex.sub(r"https?://([^/]+).*", r"\1", link) for p in Kept(day[1]).posts.values() for link in p.links}
    assert hosts
    assert all(host.endswith(".example") for host in hosts)


def test_look_alikes_are_in_the_talk_and_do_not_count(day: tuple[Hall, list[Page]]) -> None:
    alike = [post for post in Kept(day[1]).posts.values() if "ShareASmile" in post.tags]
    assert len(alike) >= 2
    assert not [post for post in alike if "shareasm" in map(fold_tag, post.tags)]


def test_one_account_floods_and_a_few_are_machines(day: tuple[Hall, list[Page]]) -> None:
    posts = Kept(day[1]).posts.values()
    assert Counter(post.author.handle for post in posts)["gold-deals-now.practice"] == 36
    assert [post for post in posts if post.author.bot and post.kind == "repost"]


def test_some_questions_are_answered_and_some_are_not(day: tuple[Hall, list[Page]]) -> None:
    asked = [p for p in Kept(day[1]).posts.values() if p.kind == "original" and "?" in p.text and p.author.bot is False]
    answered = [post for post in asked if post.counts.replies]
    assert answered
    assert len(asked) > len(answered) + 5


def test_people_answer_those_who_answered(day: tuple[Hall, list[Page]]) -> None:
    posts = Kept(day[1]).posts
    replies = [post for post in posts.values() if post.kind == "reply"]
    assert [r for r in replies if r.reply_to_id in posts and posts[r.reply_to_id].kind == "reply"]
    assert all(reply.root_id for reply in replies)


def test_followers_have_a_long_tail(day: tuple[Hall, list[Page]]) -> None:
    known = {p.author.handle: p.author.followers for p in Kept(day[1]).posts.values()}
    followers = sorted(number for number in known.values() if number is not None)
    assert followers[0] < 60
    assert followers[-1] > 20_000
    assert None in known.values()
