"""Publishing: each approved post once, whatever line a worker dies at, and in words why where it cannot."""

import hashlib
import random
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shareasm.errors import LoginNeeded, NetworkError, NoCredits, RateLimited, Unreachable
from shareasm.model import LookUp, Media, NotApplied, Outcome, Receipt, Sent, Unclear, Wire
from shareasm.publish import Lane, deliver, prepare, reconcile, recover, run_lane
from shareasm.store import Store
from shareasm.store.queue import Stale
from tests.desks import PRACTICE, DeskFolder, until
from tests.servers.postgres import Postgres
from tests.stores import (
    DAY,
    MINUTE,
    SECOND,
    TIMINGS,
    HeldClock,
    a_lane,
    a_post,
    claimed,
    empty_store,
    on_the_network,
    phases,
    planned,
    stands,
)

BOUNDARIES = ("composed", "intent", "sent", "settled")
PICTURE = b"the bytes that were approved"
MEDIA = Media("map.png", "A map", hashlib.sha256(PICTURE).hexdigest(), "image/png", len(PICTURE), 8, 8)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with empty_store(request.param, request, tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def never() -> bool:
    return False


def die_at(lane: Lane, boundary: str) -> str:
    """Send the next delivery as far as a boundary, and be killed there. Return which delivery it was."""
    delivery = claimed(lane.store, lane.clock, lane.name, lane.worker)  # pyright: ignore[reportArgumentType]
    steps = deliver(lane, delivery)
    for step in steps:
        if step == boundary:
            break
    steps.close()  # pyright: ignore[reportAttributeAccessIssue]
    return delivery.id


def live_on(*lanes: Lane, clock: HeldClock, minutes: int = 8) -> None:
    """Let the workers go on as they do, half a minute after half a minute, until nothing is on its way."""
    for _ in range(2 * minutes):
        for lane in lanes:
            lane.store.queue.sort_out([one.name for one in lanes], clock.now())
            recover(lane, [])
            run_lane(lane, never)
        clock.go(MINUTE / 2)


# ── Once ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_worker_killed_between_two_effects_neither_loses_nor_doubles_a_thread(
    store: Store, clock: HeldClock, tmp_path: Path, boundary: str
) -> None:
    planned(store, a_post("hello", "one #shareASM", "two #shareASM"))
    for number in range(2):
        die_at(a_lane(store, tmp_path, clock, worker=f"dies-{number}"), boundary)
        live_on(a_lane(store, tmp_path, clock, worker=f"lives-{number}"), clock=clock, minutes=4 if number else 0)
        if number == 0:
            clock.go(TIMINGS.lease + SECOND)
            lane = a_lane(store, tmp_path, clock, worker="between")
            recover(lane, [])
            clock.go(SECOND)
            for _ in range(3):
                while reconcile(lane):
                    pass
                clock.go(TIMINGS.look_again)
            if stands(store, "hello/first/1")[0] == "scheduled":
                run_once(lane)
    assert on_the_network(tmp_path) == ["one #shareASM", "two #shareASM"]
    assert store.queue.counts() == {"published": 2}


def run_once(lane: Lane) -> None:
    for _ in deliver(lane, claimed(lane.store, lane.clock, lane.name, lane.worker)):  # pyright: ignore[reportArgumentType]
        pass


def test_an_answer_that_was_lost_is_looked_up_and_never_sent_again(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    planned(store, a_post())
    lane = a_lane(store, tmp_path, clock, faults=["lost_answer"])
    run_lane(lane, never)
    assert stands(store)[0] == "unconfirmed"
    live_on(lane, clock=clock, minutes=1)
    assert stands(store)[0] == "published"
    assert phases(store, "hello/first/1") == ["intent", "unknown", "reconciled"]
    assert on_the_network(tmp_path) == ["hello #shareASM"]


def test_what_never_arrived_is_sent_again_after_two_looks(store: Store, clock: HeldClock, tmp_path: Path) -> None:
    planned(store, a_post())
    live_on(a_lane(store, tmp_path, clock, faults=["down"]), clock=clock, minutes=3)
    assert phases(store, "hello/first/1") == ["intent", "unknown", "absent", "absent", "intent", "confirmed"]
    assert on_the_network(tmp_path) == ["hello #shareASM"]


def test_a_sender_that_stalls_longer_than_the_guard_sends_nothing(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    planned(store, a_post())
    lane = a_lane(store, tmp_path, clock)
    steps = deliver(lane, claimed(store, clock))
    assert [next(steps), next(steps)] == ["composed", "intent"]
    clock.go(TIMINGS.guard_seconds * SECOND + SECOND / 10)
    assert list(steps) == []
    assert (on_the_network(tmp_path), phases(store, "hello/first/1")) == ([], ["intent", "stalled"])
    live_on(lane, clock=clock, minutes=1)
    assert on_the_network(tmp_path) == ["hello #shareASM"]


@pytest.mark.parametrize("stalls_at", ["composed", "intent", "sent"])
def test_a_sleeper_that_wakes_after_another_went_on_is_stale_and_writes_nothing(
    store: Store, clock: HeldClock, tmp_path: Path, stalls_at: str
) -> None:
    planned(store, a_post())
    sleeper = a_lane(store, tmp_path, clock, worker="sleeper")
    steps = deliver(sleeper, claimed(store, clock, worker="sleeper"))
    while next(steps) != stalls_at:
        pass
    clock.go(TIMINGS.lease + SECOND)
    live_on(a_lane(store, tmp_path, clock, worker="other"), clock=clock, minutes=4)
    assert stands(store)[0] == "published"
    before = store.queue.get("hello/first/1"), phases(store, "hello/first/1")
    with pytest.raises(Stale):
        next(steps)
    assert (store.queue.get("hello/first/1"), phases(store, "hello/first/1")) == before
    assert on_the_network(tmp_path) == ["hello #shareASM"]


def test_a_pause_after_the_claim_stops_the_send(store: Store, clock: HeldClock, tmp_path: Path) -> None:
    planned(store, a_post())
    steps = deliver(a_lane(store, tmp_path, clock), claimed(store, clock))
    next(steps)
    store.switches.pause("all", "", by="Ann", role="author", reason="stop", at=DAY)
    assert list(steps) == []
    assert (stands(store), on_the_network(tmp_path)) == (("paused", "paused by Ann: stop"), [])


@pytest.mark.parametrize("seed", range(4))
def test_a_bad_day_with_two_workers_ends_with_every_part_once_and_in_order(
    store: Store, clock: HeldClock, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a rehearsal, no secret
    day = timedelta(days=1)
    parts = [[f"p{n} part {part}" for part in range(1 + n % 3)] for n in range(6)]
    posts = [a_post(f"p{n}", *parts[n], due=DAY + n * 20 * SECOND, not_after=day) for n in range(6)]
    planned(store, *posts)
    faults = chance.choices(["", "lost_answer", "down", "rate"], [4, 3, 3, 1], k=12)
    lanes = [a_lane(store, tmp_path, clock, worker=f"w{n}", faults=faults[n::2]) for n in range(2)]
    asleep: list[Iterator[str]] = []
    for _ in range(600):
        lane = chance.choice(lanes)
        recover(lane, [])
        store.queue.sort_out(["first"], clock.now())
        while reconcile(lane):
            pass
        delivery = store.queue.claim("first", lane.worker, clock, TIMINGS)
        if delivery is not None:
            steps = deliver(lane, delivery)
            for _ in range(chance.choice([0, 1, 2, 3, 9, 9, 9])):
                next(steps, None)
            asleep.append(steps)
        if asleep and chance.random() < 0.2:
            with suppress(Stale):
                next(asleep.pop(chance.randrange(len(asleep))), None)
        clock.go(chance.choice([0.2, 5, 30]) * SECOND)
        if set(store.queue.counts()) <= {"published", "needs_human"}:
            break
    told = on_the_network(tmp_path)
    wanted = [text for post in posts for text in post.parts[""]]
    assert len(told) == len(set(told))
    assert set(told) >= {d.frozen.text for d in store.queue.all() if d.state == "published"}
    assert set(wanted) - set(told) <= {d.frozen.text for d in store.queue.all() if d.state == "needs_human"}
    for post in posts:
        out = [text for text in told if text in post.parts[""]]
        assert out == list(post.parts[""][: len(out)])


# ── What a network refuses ───────────────────────────────────────────────────────────────────────────────────────────


def test_refused_content_has_failed_in_words_and_the_next_post_goes_on(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    planned(store, a_post("a"), a_post("b"))
    live_on(a_lane(store, tmp_path, clock, faults=["refuse"]), clock=clock, minutes=1)
    assert stands(store, "a/first/1") == ("failed", "Refused, as this rehearsal asked.")
    assert on_the_network(tmp_path) == ["b #shareASM"]


def test_a_rate_limit_lets_one_account_rest_and_the_others_go_on(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    planned(store, a_post("a", accounts=("first", "second")), a_post("b"))
    first = a_lane(store, tmp_path, clock, faults=["rate"])
    second = a_lane(store, tmp_path, clock, name="second")
    for lane in (first, second):
        run_lane(lane, never)
    assert on_the_network(tmp_path) == ["a #shareASM"]
    assert stands(store, "a/first/1") == ("scheduled", "Too many posts, as this rehearsal asked.")
    clock.go(MINUTE)
    run_lane(first, never)
    assert on_the_network(tmp_path) == ["a #shareASM", "a #shareASM", "b #shareASM"]


@pytest.mark.parametrize("fault", ["login", "money"])
def test_a_dead_key_holds_the_account_until_a_person_resumes_and_releases(
    store: Store, clock: HeldClock, tmp_path: Path, fault: str
) -> None:
    planned(store, a_post())
    lane = a_lane(store, tmp_path, clock, faults=[fault])
    live_on(lane, clock=clock, minutes=2)
    assert stands(store)[0] == "paused"
    store.switches.resume("account", "first", by="Ann", role="approver", reason="new key", at=clock.now())
    live_on(lane, clock=clock, minutes=1)
    assert on_the_network(tmp_path) == []
    store.queue.send_now("hello/first/1", by="Ann", role="approver", why="go", clock=clock, last=MINUTE)
    live_on(lane, clock=clock, minutes=1)
    assert on_the_network(tmp_path) == ["hello #shareASM"]


class Scripted:
    """A network that answers as it is told, and counts what it was asked."""

    keeps_key: timedelta | None = None
    settle = timedelta(seconds=1)

    def __init__(self, *answers: Outcome, uploads: Mapping[str, NetworkError] | None = None) -> None:
        self.answers = deque(answers)
        self.uploads = dict(uploads or {})
        self.sent: list[Wire] = []
        self.asked = 0

    def prepare(self, media: Media, content: bytes) -> Mapping[str, object]:
        self.asked += 1
        if media.file in self.uploads:
            raise self.uploads[media.file]
        return {"digest": media.digest}

    def compose(self, frozen, thread, media) -> Wire:
        return {"text": frozen.text, "media": list(media), "thread": thread and thread.parent.remote_id}

    def send(self, wire: Wire) -> Outcome:
        self.sent.append(wire)
        return self.answers.popleft() if self.answers else Sent(Receipt(f"r{len(self.sent)}"))

    def look_up(self, wire: Wire) -> LookUp:
        return Unclear("nobody knows")


def scripted(store: Store, clock: HeldClock, tmp_path: Path, network: Scripted, *pictures: str) -> Lane:
    lane = a_lane(store, tmp_path, clock, pictures=dict.fromkeys(pictures, PICTURE))
    return replace(lane, account=network)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("until_moment", [DAY - MINUTE, datetime(9999, 12, 31, tzinfo=UTC)])
def test_a_nonsense_reset_neither_hammers_the_network_nor_holds_us_for_years(
    store: Store, clock: HeldClock, tmp_path: Path, until_moment: datetime
) -> None:
    planned(store, a_post())
    network = Scripted(*[NotApplied("later", "wait", until_moment, 429)] * 3)
    run_lane(scripted(store, clock, tmp_path, network), never)
    assert len(network.sent) == 1
    rests_until, _ = store.workers.closed(DAY)["first"]
    assert DAY + SECOND <= rests_until <= DAY + timedelta(days=1)


def test_where_nobody_can_look_a_person_is_asked_and_nothing_is_sent_twice(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    from shareasm.model import Unknown

    planned(store, a_post())
    network = Scripted(Unknown("time-out"))
    live_on(scripted(store, clock, tmp_path, network), clock=clock, minutes=33)
    assert stands(store) == ("needs_human", "Nobody could look whether it is out: nobody knows")
    assert len(network.sent) == 1


def test_a_long_queue_is_sent_in_the_order_of_its_moments(store: Store, clock: HeldClock, tmp_path: Path) -> None:
    planned(store, *(a_post(f"p{n:02}", due=DAY - n * SECOND, media=(MEDIA,)) for n in range(45)))
    network = Scripted()
    assert run_lane(scripted(store, clock, tmp_path, network, "map.png"), never) == 45
    assert [wire["text"] for wire in network.sent] == [f"p{n:02} #shareASM" for n in range(44, -1, -1)]
    assert network.asked == 45  # an upload belongs to one post, so each has its own


def test_what_cannot_be_said_fails_in_words_and_holds_up_no_other(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    class Picky(Scripted):
        def compose(self, frozen, thread, media) -> Wire:
            if frozen.text.startswith("p0"):
                raise ValueError("No room for a card beside a picture.")
            return super().compose(frozen, thread, media)

    planned(store, a_post("p0", due=DAY - SECOND), a_post("p1"))
    network = Picky()
    run_lane(scripted(store, clock, tmp_path, network), never)
    assert [wire["text"] for wire in network.sent] == ["p1 #shareASM"]
    assert stands(store) == ("failed", "No room for a card beside a picture.")


def test_an_old_upload_is_made_again(store: Store, clock: HeldClock, tmp_path: Path) -> None:
    planned(store, a_post(media=(MEDIA,), due=DAY + 5 * MINUTE, not_after=timedelta(hours=6)))
    network = Scripted()
    lane = scripted(store, clock, tmp_path, network, "map.png")
    assert prepare(lane, until=DAY + 10 * MINUTE)
    clock.go(timedelta(hours=2))
    run_lane(lane, never)
    assert (network.asked, len(network.sent)) == (2, 1)


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_that_changed_since_approval_is_never_sent(store: Store, clock: HeldClock, tmp_path: Path) -> None:
    planned(store, a_post("a", media=(MEDIA,)), a_post("b"))
    live_on(a_lane(store, tmp_path, clock), clock=clock, minutes=1)
    state, reason = stands(store, "a/first/1")
    assert (state, on_the_network(tmp_path)) == ("failed", ["b #shareASM"])
    assert "map.png is not the picture that was approved" in reason


def test_pictures_are_uploaded_once_and_ahead_of_their_moment(store: Store, clock: HeldClock, tmp_path: Path) -> None:
    planned(store, a_post("a", due=DAY + 5 * MINUTE, media=(MEDIA,)))
    network = Scripted()
    lane = scripted(store, clock, tmp_path, network, "map.png")
    for _ in range(3):
        assert prepare(lane, until=DAY + 10 * MINUTE)
    clock.go(5 * MINUTE)
    run_lane(lane, never)
    assert (network.asked, network.sent[0]["media"]) == (1, [{"digest": MEDIA.digest}])


def test_a_picture_that_cannot_be_uploaded_now_holds_up_no_other_post(
    store: Store, clock: HeldClock, tmp_path: Path
) -> None:
    planned(store, a_post("a", media=(MEDIA,)), a_post("b"))
    network = Scripted(uploads={"map.png": Unreachable("No answer.", network="scripted")})
    lane = scripted(store, clock, tmp_path, network, "map.png")
    run_lane(lane, never)
    assert [wire["text"] for wire in network.sent] == ["b #shareASM"]
    assert stands(store, "a/first/1") == ("scheduled", "scripted: No answer.")
    network.uploads.clear()
    clock.go(MINUTE)
    run_lane(lane, never)
    assert stands(store, "a/first/1")[0] == "published"


@pytest.mark.parametrize(
    ("error", "asked"),
    [(RateLimited(None, "Too many uploads."), 1), (LoginNeeded("Who are you?"), 1), (NoCredits("Pay first."), 1)],
)
def test_an_account_that_may_not_upload_is_not_asked_again_and_again(
    store: Store, clock: HeldClock, tmp_path: Path, error: NetworkError, asked: int
) -> None:
    planned(store, a_post("a", media=(MEDIA,)), a_post("b", media=(replace(MEDIA, digest="other", file="b.png"),)))
    network = Scripted(uploads={"map.png": error, "b.png": error})
    lane = scripted(store, clock, tmp_path, network, "map.png", "b.png")
    for _ in range(5):
        store.queue.sort_out(["first"], clock.now())
        run_lane(lane, never)
        clock.go(SECOND)
    assert (network.asked, network.sent) == (asked, [])
    assert [str(d.state) for d in store.queue.all()] in (["scheduled"] * 2, ["paused"] * 2)


# ── A worker that really dies ────────────────────────────────────────────────────────────────────────────────────────


def a_programme(tmp_path: Path, database: str, *, posts: int, begins: datetime) -> DeskFolder:
    desk = DeskFolder(tmp_path / "desk").desk_toml(f'{PRACTICE}\n[people]\nann = "approver"\n', database).campaign()
    for n in range(posts):
        desk.post(f"p{n:02}", begins + n * SECOND / 2, f"Number {n} #shareASM\n\n---\n\nIts second part {n}")
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "ann")
    return desk


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_worker_killed_in_the_middle_of_a_programme_is_made_good_by_the_next_within_seconds(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    database = "sqlite:///desk.db"
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        database = server.fresh_database()
    desk = a_programme(tmp_path, database, posts=6, begins=datetime.now(UTC) + 3 * SECOND)
    wanted = [text for n in range(6) for text in (f"Number {n} #shareASM", f"Its second part {n}")]
    for out in (2, 7):
        with desk.worker() as running:
            until(lambda out=out: len(on_the_network(desk.folder)) >= out, running)
            running.kill()
    with desk.worker() as running, desk.store() as store:
        until(lambda: store.queue.counts() == {"published": 12}, running, within=20)
    assert sorted(on_the_network(desk.folder)) == sorted(wanted)
