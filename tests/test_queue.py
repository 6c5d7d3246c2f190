"""The queue: every row of the two state tables of publishing.md, on both databases."""

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from shareasm.errors import NotAllowed, StateError
from shareasm.model import Found, NotApplied, Receipt, WorldClock
from shareasm.store import Store
from shareasm.store.queue import Stale
from tests.stores import (
    DAY,
    FOLDER,
    HOUR,
    MINUTE,
    SECOND,
    TIMINGS,
    HeldClock,
    a_post,
    a_store,
    approve,
    claimed,
    empty_store,
    phases,
    planned,
    sending,
    stands,
    synced,
    wire_of,
)

SETTLE = timedelta(seconds=60)
EVER = timedelta.max


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with empty_store(request.param, request, tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


def unconfirmed(store: Store, clock: HeldClock) -> str:
    """Bring the next delivery to where its answer was lost, and go on to when a look is worth something."""
    delivery = sending(store, clock)
    store.queue.unknown(delivery, "worker", "time-out", clock, settle=SETTLE)
    clock.go(SETTLE)
    return delivery.id


def looked_up(store: Store, clock: HeldClock):
    delivery = store.queue.to_look_up("first", "worker", clock, TIMINGS)
    assert delivery is not None
    return delivery


def absent(store: Store, clock: HeldClock, *, keeps_key: timedelta | None) -> None:
    store.queue.absent(looked_up(store, clock), "worker", clock, TIMINGS, keeps_key=keeps_key)


def decide(store: Store, what: str, delivery_id: str, clock: HeldClock, *, role: str = "approver", **more) -> None:
    getattr(store.queue, what)(delivery_id, by="Ann", role=role, why="seen", clock=clock, **more)


# ── Posts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_post_waits_for_approval_and_has_no_delivery(store: Store) -> None:
    assert synced(store, a_post()).new == ["hello"]
    assert [one.state for one in store.posts.all()] == ["in_review"]
    assert store.queue.all() == []


def test_approval_inserts_each_delivery_once(store: Store) -> None:
    synced(store, a_post("hello", "one", "two", accounts=("first", "second")))
    assert [approve(store, "hello"), approve(store, "hello")] == [4, 0]
    assert len({(d.account, d.part) for d in store.queue.all()}) == 4


def test_only_an_approver_approves_withdraws_and_lifts_a_pause(store: Store) -> None:
    synced(store, a_post())
    campaign_id = store.campaigns.id_of(FOLDER)
    store.switches.pause("all", "", by="Al", role="author", reason="wait", at=DAY)
    with pytest.raises(NotAllowed):
        approve(store, "hello", role="author")
    with pytest.raises(NotAllowed):
        store.posts.withdraw(campaign_id, "hello", by="Al", role="author", why="no", at=DAY)
    with pytest.raises(NotAllowed):
        store.switches.resume("all", "", by="Al", role="author", reason="go", at=DAY)
    with pytest.raises(NotAllowed):
        store.switches.pause("all", "", by="Vic", role="viewer", reason="stop", at=DAY)
    assert store.queue.all() == []


def test_a_revision_that_changed_meanwhile_is_not_approved(store: Store) -> None:
    synced(store, a_post("hello", "before"))
    seen = store.posts.all()[0].revision_hash
    synced(store, a_post("hello", "after"))
    with pytest.raises(StateError, match="changed a moment ago"):
        store.posts.approve(
            store.campaigns.id_of(FOLDER), "hello", seen, [], by="Ann", role="approver", at=DAY
        )  # fmt: skip


def test_reading_the_same_file_again_changes_nothing(store: Store) -> None:
    before = planned(store, a_post())
    assert synced(store, a_post()).unchanged == ["hello"]
    assert store.queue.all() == before
    assert store.posts.all()[0].state == "approved"


def test_an_edit_voids_the_approval_and_cancels_what_waits(store: Store) -> None:
    planned(store, a_post("hello", "before"))
    assert synced(store, a_post("hello", "after")).changed == ["hello"]
    assert [one.state for one in store.posts.all()] == ["in_review"]
    assert stands(store) == ("cancelled", "the post was edited")
    assert approve(store, "hello") == 1
    assert [(d.frozen.text, d.state) for d in store.queue.all()] == [("before", "cancelled"), ("after", "scheduled")]


def test_an_edit_is_refused_while_a_delivery_is_on_its_way(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("hello", "before"))
    delivery = claimed(store, clock)
    for bring_on in (
        lambda: None,
        lambda: store.queue.intent(delivery, {}, "worker", clock, TIMINGS),
        lambda: store.queue.unknown(delivery, "worker", "lost", clock, settle=SETTLE),
    ):
        bring_on()
        conflicts = synced(store, a_post("hello", "after")).conflicts
        assert "is on its way or waits for a person" in conflicts[0]
    assert store.posts.all()[0].state == "approved"


def test_what_was_sent_is_never_sent_again_whatever_its_file_says_later(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("hello", "before"))
    store.queue.confirm(sending(store, clock), "worker", Receipt("1"), clock)
    assert "changed since it was sent" in synced(store, a_post("hello", "after")).conflicts[0]
    assert store.posts.all()[0].note == "changed since sent"
    assert [d.frozen.text for d in store.queue.all()] == ["before"]


def test_after_an_edit_of_what_is_partly_out_only_the_rest_goes_out(store: Store, clock: HeldClock) -> None:
    both = ("first", "second")
    planned(store, a_post("hello", "before", accounts=both))
    store.queue.confirm(sending(store, clock), "worker", Receipt("1"), clock)
    synced(store, a_post("hello", "after", accounts=both))
    assert approve(store, "hello") == 1
    live = [(d.account, d.frozen.text, str(d.state)) for d in store.queue.all() if d.state != "cancelled"]
    assert sorted(live) == [("first", "before", "published"), ("second", "after", "scheduled")]


def test_a_missing_file_holds_what_waits_and_takes_an_unapproved_post_out_of_review(store: Store) -> None:
    synced(store, a_post("approved"), a_post("waiting"))
    approve(store, "approved")
    assert sorted(synced(store).missing) == ["approved", "waiting"]
    assert stands(store)[0] == "paused"
    assert "approved.md is missing" in stands(store)[1]
    with pytest.raises(StateError):
        approve(store, "waiting")
    synced(store, a_post("waiting"))
    assert approve(store, "waiting") == 1


def test_a_broken_file_takes_nothing_back(store: Store) -> None:
    planned(store, a_post())
    report = store.posts.sync(store.campaigns.id_of(FOLDER), [], {}, at=DAY, unreadable=frozenset({"hello.md"}))
    assert (report.missing, stands(store)[0]) == ([], "scheduled")


def test_a_withdrawn_post_is_out_for_good(store: Store) -> None:
    planned(store, a_post())
    campaign_id = store.campaigns.id_of(FOLDER)
    store.posts.withdraw(campaign_id, "hello", by="Ann", role="approver", why="a wrong figure", at=DAY)
    assert stands(store) == ("cancelled", "withdrawn by Ann: a wrong figure")
    assert "was withdrawn" in synced(store, a_post("hello", "once more")).conflicts[0]


def test_a_sync_and_an_approval_at_the_same_time_never_lose_the_approval(store: Store) -> None:
    posts = [a_post(f"p{n}") for n in range(12)]
    synced(store, *posts)
    with ThreadPoolExecutor(3) as pool:
        syncs = [pool.submit(synced, store, *posts) for _ in range(6)]
        approvals = [pool.submit(approve, store, post.id) for post in posts]
    assert sum(done.result() for done in approvals) == 12
    assert not any(done.result().conflicts for done in syncs)
    assert {one.state for one in store.posts.all()} == {"approved"}


# ── Scheduled ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_claimed_before_its_moment(store: Store, clock: HeldClock) -> None:
    planned(store, a_post(due=DAY + SECOND))
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None
    clock.go(SECOND)
    assert claimed(store, clock).state == "claimed"


def test_one_account_has_one_lane(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a"), a_post("b"), a_post("c", accounts=("second",)))
    claimed(store, clock, worker="one")
    assert store.queue.claim("first", "two", clock, TIMINGS) is None
    assert claimed(store, clock, "second", worker="two").post == "c"


def test_the_database_itself_refuses_a_second_claim_in_a_lane(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a"), a_post("b"))
    claimed(store, clock)
    with pytest.raises(IntegrityError), store.database.write() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'sending' WHERE post_id = 'b'"))


def test_the_database_itself_refuses_a_second_live_delivery_of_a_part(store: Store) -> None:
    planned(store, a_post())
    kept = "campaign_id, post_id, account, network, language, part, of_parts, state, due_at, next_at, not_after, frozen"
    again = f"""INSERT INTO deliveries (id, idem_key, frozen_hash, created_at, {kept})
        SELECT 'again', 'another', frozen_hash, created_at, {kept} FROM deliveries"""  # noqa: S608
    with pytest.raises(IntegrityError), store.database.write() as connection:
        connection.execute(text(again))


def test_what_fell_due_in_a_pause_stays_paused_and_names_the_pause(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    store.switches.pause("language", "en", by="Ann", role="author", reason="a figure is wrong", at=DAY)
    store.queue.sort_out(["first"], DAY)
    store.switches.resume("language", "en", by="Ann", role="approver", reason="mended", at=DAY)
    store.queue.sort_out(["first"], DAY)
    assert stands(store) == ("paused", "paused by Ann: a figure is wrong")
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None


@pytest.mark.parametrize(
    ("scope", "key", "covered"),
    [("all", "", True), ("campaign", FOLDER, True), ("network", "practice", True), ("account", "first", True),
     ("language", "en", True), ("campaign", "other", False), ("network", "x", False), ("account", "second", False),
     ("language", "fr", False)],
)  # fmt: skip
def test_a_pause_covers_its_scope_and_nothing_else(
    store: Store, clock: HeldClock, scope: str, key: str, covered: bool
) -> None:
    planned(store, a_post())
    store.switches.pause(scope, key, by="Ann", role="author", reason="stop", at=DAY)
    delivery = claimed(store, clock)
    begun = store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS)
    assert (begun is None) == covered
    assert stands(store)[0] == ("paused" if covered else "sending")


def test_what_was_not_due_in_a_pause_stays_planned(store: Store, clock: HeldClock) -> None:
    planned(store, a_post(due=DAY + MINUTE))
    store.switches.pause("all", "", by="Ann", role="author", reason="stop", at=DAY)
    store.queue.sort_out(["first"], DAY)
    store.switches.resume("all", "", by="Ann", role="approver", reason="go", at=DAY)
    assert stands(store)[0] == "scheduled"


def test_after_its_last_moment_a_delivery_is_missed_with_what_was_tried(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    store.queue.refused(
        sending(store, clock), "worker", NotApplied("later", "Too many."), clock, again_at=DAY + HOUR
    )  # fmt: skip
    store.queue.sort_out(["first"], DAY + 15 * MINUTE)
    assert stands(store)[0] == "scheduled"
    store.queue.sort_out(["first"], DAY + 15 * MINUTE + SECOND)
    assert stands(store) == ("missed", "its last moment passed before it could be sent: Too many.")


def test_who_wants_a_late_post_left_out_is_not_asked(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("hello", "one", "two", if_late="skip"))
    for _ in range(2):
        store.queue.sort_out(["first"], DAY + HOUR)
    assert [str(d.state) for d in store.queue.all()] == ["cancelled", "cancelled"]


def test_a_part_waits_for_the_part_before_it(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("hello", "one", "two"))
    first = sending(store, clock)
    assert first.part == 1
    store.queue.unknown(first, "worker", "lost", clock, settle=SETTLE)
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None
    clock.go(SETTLE)
    store.queue.found(looked_up(store, clock), "worker", Found(Receipt("1")), clock)
    assert claimed(store, clock).part == 2


@pytest.mark.parametrize("lost", ["missed", "failed", "cancelled"])
def test_a_part_behind_a_lost_one_is_blocked(store: Store, clock: HeldClock, lost: str) -> None:
    planned(store, a_post("hello", "one", "two"))
    match lost:
        case "missed":
            clock.go(HOUR)
        case "failed":
            store.queue.fail("hello/first/1", "its picture changed")
        case _:
            decide(store, "cancel", "hello/first/1", clock)
    for _ in range(2):
        store.queue.sort_out(["first"], clock.now())
    assert stands(store, "hello/first/1")[0] == lost
    assert stands(store, "hello/first/2") == ("blocked", "an earlier part of its thread is not out")


def test_a_reply_waits_for_the_post_that_it_answers(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("answered", due=DAY), a_post("reply", due=DAY - MINUTE, reply_to="answered"))
    first = sending(store, clock)
    assert first.post == "answered"
    store.queue.confirm(first, "worker", Receipt("1", cid="c"), clock)
    reply = claimed(store, clock)
    thread = store.queue.thread_of(reply)
    assert thread is not None
    assert thread.parent.remote_id == "1"


def test_a_reply_to_what_nobody_approved_waits_and_is_missed_in_words(store: Store, clock: HeldClock) -> None:
    synced(store, a_post("answered"), a_post("reply", reply_to="answered"))
    approve(store, "reply")
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None
    store.queue.sort_out(["first"], DAY + HOUR)
    assert stands(store) == ("missed", "the post it replies to was not approved in time")


def test_a_reply_to_a_missed_post_is_blocked(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("answered", not_after=MINUTE), a_post("reply", reply_to="answered"))
    for _ in range(2):
        store.queue.sort_out(["first"], DAY + 2 * MINUTE)
    assert stands(store, "reply/first/1") == ("blocked", "the post it replies to is not out")


def test_every_part_of_a_reply_names_the_root_of_the_whole_thread(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a"), a_post("b", reply_to="a"), a_post("c", "c one", "c two", reply_to="b"))
    roots = []
    for number in range(4):
        delivery = claimed(store, clock)
        thread = store.queue.thread_of(delivery)
        roots.append((delivery.id, thread and thread.parent.remote_id, thread and thread.root.remote_id))
        assert store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS)
        store.queue.confirm(delivery, "worker", Receipt(f"r{number}"), clock)
    assert roots == [
        ("a/first/1", None, None),
        ("b/first/1", "r0", "r0"),
        ("c/first/1", "r1", "r0"),
        ("c/first/2", "r2", "r0"),
    ]


def test_half_a_thread_is_a_matter_for_a_person_who_can_finish_it(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("hello", "one", "two"))
    store.queue.confirm(sending(store, clock), "worker", Receipt("1"), clock)
    clock.go(31 * MINUTE)
    store.queue.sort_out(["first"], clock.now())
    assert stands(store, "hello/first/2") == ("needs_human", "half of this thread is out for 30 minutes")
    decide(store, "send_now", "hello/first/2", clock, last=15 * MINUTE)
    clock.go(SECOND)
    store.queue.sort_out(["first"], clock.now())
    assert claimed(store, clock).part == 2


# ── Claimed ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_whose_lease_is_over_goes_back_unsent(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    held = claimed(store, clock)
    assert store.queue.recover("first", clock, settle=SETTLE) == 0
    clock.go(TIMINGS.lease + SECOND)
    assert store.queue.recover("first", clock, settle=SETTLE) == 1
    assert stands(store)[0] == "scheduled"
    with pytest.raises(Stale):
        store.queue.intent(held, wire_of(held), "worker", clock, TIMINGS)


def test_the_last_look_stops_what_is_too_late(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = claimed(store, clock)
    clock.go(15 * MINUTE + SECOND)
    assert store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS) is None
    assert stands(store)[0] == "missed"


def test_the_last_look_stops_what_was_withdrawn(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = claimed(store, clock)
    campaign_id = store.campaigns.id_of(FOLDER)
    store.posts.withdraw(campaign_id, "hello", by="Ann", role="approver", why="no", at=DAY)
    assert store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS) is None
    assert stands(store) == ("cancelled", "its approval is no longer valid")


def test_the_last_look_gives_back_what_a_resting_account_holds(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = claimed(store, clock)
    store.queue.close("first", DAY + MINUTE, "Too many requests.")
    assert store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS) is None
    assert stands(store) == ("scheduled", "Too many requests.")
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None
    clock.go(MINUTE)
    assert claimed(store, clock).id == delivery.id


def test_a_pause_inside_the_intents_own_transaction_is_seen(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = claimed(store, clock)
    store.switches.pause("all", "", by="Ann", role="author", reason="stop", at=DAY)
    assert store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS) is None
    assert stands(store) == ("paused", "paused by Ann: stop")
    assert phases(store, delivery.id) == []


# ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_intent_is_on_disk_before_anything_is_sent(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = sending(store, clock)
    held = store.queue.get(delivery.id)
    assert (held.state, held.tries, held.key_used_at, held.wire) == ("sending", 1, DAY, wire_of(delivery))
    assert phases(store, delivery.id) == ["intent"]


def test_the_bytes_and_the_keys_moment_of_the_first_intent_stay(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    first = sending(store, clock)
    store.queue.refused(first, "worker", NotApplied("later", "wait"), clock, again_at=DAY + MINUTE)
    clock.go(MINUTE)
    again = claimed(store, clock)
    begun = store.queue.intent(again, {"text": "something else"}, "worker", clock, TIMINGS)
    assert begun is not None
    assert begun.wire == wire_of(first)
    assert store.queue.get(first.id).key_used_at == DAY


def test_a_stalled_send_is_given_back_as_if_it_never_began(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = sending(store, clock)
    store.queue.stalled(delivery, "worker", clock)
    assert (stands(store)[0], store.queue.get(delivery.id).tries) == ("scheduled", 0)
    assert phases(store, delivery.id) == ["intent", "stalled"]


def test_a_receipt_says_how_late_it_was(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    clock.go(90 * SECOND)
    store.queue.confirm(sending(store, clock), "worker", Receipt("1", "https://practice/1", "cid"), clock)
    done = store.queue.all()[0]
    assert (done.state, done.late_ms, done.reason) == ("published", 90_000, "")
    assert done.receipt == Receipt("1", "https://practice/1", "cid", DAY + 90 * SECOND)


def test_a_refusal_that_may_pass_lets_the_account_rest_and_others_go_on(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a", accounts=("first", "second")), a_post("b"))
    refused = NotApplied("later", "Too many posts.", DAY + MINUTE, 429)
    store.queue.refused(sending(store, clock), "worker", refused, clock, again_at=DAY + MINUTE)
    assert stands(store, "a/first/1") == ("scheduled", "Too many posts.")
    assert store.workers.closed(DAY) == {"first": (DAY + MINUTE, "Too many posts.")}
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None
    assert claimed(store, clock, "second").post == "a"


@pytest.mark.parametrize("kind", ["account", "money"])
def test_a_dead_key_or_an_empty_purse_holds_the_account_and_burns_no_post(
    store: Store, clock: HeldClock, kind: str
) -> None:
    planned(store, a_post("a"), a_post("b"))
    store.queue.refused(
        sending(store, clock), "worker", NotApplied(kind, "401"), clock, again_at=DAY + SECOND
    )  # fmt: skip  # pyright: ignore[reportArgumentType]
    on = store.switches.on()
    assert [(s.scope, s.key, s.by) for s in on] == [("account", "first", "desk")]
    store.queue.sort_out(["first"], DAY + SECOND)
    assert [str(d.state) for d in store.queue.all()] == ["paused", "paused"]


def test_refused_content_has_failed_in_the_networks_words(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    words = "text too long\x00 \ud800"
    store.queue.refused(sending(store, clock), "worker", NotApplied("content", words), clock, again_at=DAY)
    assert stands(store) == ("failed", "text too long �")


def test_a_receipt_of_another_delivery_is_a_matter_for_a_person(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a"), a_post("b"))
    store.queue.confirm(sending(store, clock), "worker", Receipt("same"), clock)
    store.queue.confirm(sending(store, clock), "worker", Receipt("same"), clock)
    assert stands(store, "a/first/1")[0] == "published"
    assert stands(store, "b/first/1") == ("needs_human", "The network gave it the receipt of another delivery: same")


def test_a_sender_that_died_leaves_an_unconfirmed_delivery(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery = sending(store, clock)
    clock.go(TIMINGS.lease + SECOND)
    assert store.queue.recover("first", clock, settle=SETTLE) == 1
    assert stands(store) == ("unconfirmed", "the worker stopped while it was sending")
    with pytest.raises(Stale):
        store.queue.confirm(delivery, "worker", Receipt("1"), clock)
    assert store.queue.to_look_up("first", "worker", clock, TIMINGS) is None


def test_leases_of_a_worker_that_is_known_to_be_dead_end_at_once(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a"), a_post("b", accounts=("second",)), a_post("c", due=DAY + HOUR))
    sending(store, clock, worker="dead")
    claimed(store, clock, "second", worker="alive")
    assert store.queue.recover("first", clock, settle=SETTLE, dead_workers=["dead"]) == 1
    assert store.queue.recover("second", clock, settle=SETTLE, dead_workers=["dead"]) == 0
    assert stands(store, "a/first/1")[0] == "unconfirmed"
    assert stands(store, "b/second/1")[0] == "claimed"


def test_a_look_up_of_a_dead_worker_is_begun_again_at_once(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    unconfirmed(store, clock)
    store.queue.to_look_up("first", "dead", clock, TIMINGS)
    assert store.queue.to_look_up("first", "worker", clock, TIMINGS) is None
    assert store.queue.recover("first", clock, settle=SETTLE, dead_workers=["dead"]) == 1
    assert looked_up(store, clock).id == "hello/first/1"


def test_nobody_sends_again_before_somebody_has_looked(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    unconfirmed(store, clock)
    assert store.queue.claim("first", "worker", clock, TIMINGS) is None


# ── Unconfirmed ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_look_up_finds_is_published_at_the_networks_time(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery_id = unconfirmed(store, clock)
    found = Found(Receipt("1", at=DAY + 3 * SECOND))
    store.queue.found(looked_up(store, clock), "worker", found, clock)
    assert (stands(store)[0], store.queue.get(delivery_id).late_ms) == ("published", 3_000)
    assert phases(store, delivery_id) == ["intent", "unknown", "reconciled"]


def test_a_look_up_that_failed_proves_nothing(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery_id = unconfirmed(store, clock)
    for _ in range(3):
        store.queue.unclear(looked_up(store, clock), "worker", "no answer", clock, TIMINGS)
        clock.go(TIMINGS.look_again)
    assert (stands(store), store.queue.get(delivery_id).absent_seen) == (("unconfirmed", "no answer"), 0)


def test_after_half_an_hour_without_an_answer_a_person_is_asked(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    unconfirmed(store, clock)
    clock.go(TIMINGS.give_up_looking)
    store.queue.unclear(looked_up(store, clock), "worker", "no answer", clock, TIMINGS)
    assert stands(store) == ("needs_human", "Nobody could look whether it is out: no answer")


def test_absent_once_proves_nothing_and_twice_sends_again_under_the_same_key(store: Store, clock: HeldClock) -> None:
    before = planned(store, a_post())[0]
    unconfirmed(store, clock)
    absent(store, clock, keeps_key=EVER)
    assert stands(store)[0] == "unconfirmed"
    assert store.queue.to_look_up("first", "worker", clock, TIMINGS) is None
    clock.go(TIMINGS.look_again)
    absent(store, clock, keeps_key=EVER)
    assert stands(store)[0] == "scheduled"
    again = sending(store, clock)
    assert (again.frozen, again.wire) == (before.frozen, wire_of(before))


@pytest.mark.parametrize(
    ("keeps_key", "waited", "words"),
    [(None, MINUTE, "cannot promise"), (HOUR, HOUR, "cannot promise"), (EVER, HOUR, "its last moment has passed")],
)
def test_absent_twice_is_a_matter_for_a_person_where_no_key_holds_or_it_is_too_late(
    store: Store, clock: HeldClock, keeps_key: timedelta | None, waited: timedelta, words: str
) -> None:
    planned(store, a_post())
    unconfirmed(store, clock)
    absent(store, clock, keeps_key=keeps_key)
    clock.go(waited)
    absent(store, clock, keeps_key=keeps_key)
    state, reason = stands(store)
    assert state == "needs_human"
    assert words in reason


def test_other_content_in_its_place_is_a_matter_for_a_person(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    unconfirmed(store, clock)
    found = Found(Receipt("1", "https://practice/1"), same=False)
    store.queue.found(looked_up(store, clock), "worker", found, clock)
    assert stands(store) == ("needs_human", "Something else stands in its place: https://practice/1")


# ── A person's word ──────────────────────────────────────────────────────────────────────────────────────────────────


def needs_human(store: Store, clock: HeldClock) -> str:
    delivery_id = unconfirmed(store, clock)
    absent(store, clock, keeps_key=None)
    clock.go(TIMINGS.look_again)
    absent(store, clock, keeps_key=None)
    return delivery_id


def test_a_person_says_that_it_is_there(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    delivery_id = needs_human(store, clock)
    receipt = Receipt("7", "https://practice/7", at=DAY + SECOND)
    decide(store, "it_is_there", delivery_id, clock, receipt=receipt)
    assert stands(store) == ("published", "Ann: seen")
    assert store.queue.get(delivery_id).late_ms == 1_000
    assert phases(store, delivery_id)[-1] == "decided"


def test_one_link_is_not_the_receipt_of_two_deliveries(store: Store, clock: HeldClock) -> None:
    planned(store, a_post("a"), a_post("b"))
    store.queue.confirm(sending(store, clock), "worker", Receipt("7"), clock)
    delivery_id = needs_human(store, clock)
    with pytest.raises(StateError, match="the receipt of another delivery"):
        decide(store, "it_is_there", delivery_id, clock, receipt=Receipt("7"))
    assert stands(store, delivery_id)[0] == "needs_human"


def test_a_person_lets_it_go(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    decide(store, "cancel", needs_human(store, clock), clock)
    assert stands(store) == ("cancelled", "Ann: seen")


def test_what_was_paused_or_missed_goes_out_on_a_persons_word_with_a_new_last_moment(
    store: Store, clock: HeldClock
) -> None:
    planned(store, a_post())
    clock.go(HOUR)
    store.queue.sort_out(["first"], clock.now())
    assert stands(store)[0] == "missed"
    decide(store, "send_now", "hello/first/1", clock, last=15 * MINUTE)
    store.queue.sort_out(["first"], clock.now())
    delivery = sending(store, clock)
    store.queue.confirm(delivery, "worker", Receipt("1"), clock)
    assert stands(store)[0] == "published"


@pytest.mark.parametrize("what", ["cancel", "send_now"])
def test_no_person_moves_what_may_be_out_already(store: Store, clock: HeldClock, what: str) -> None:
    planned(store, a_post())
    sending(store, clock)
    more = {"last": MINUTE} if what == "send_now" else {}
    with pytest.raises(StateError, match="is sending"):
        decide(store, what, "hello/first/1", clock, **more)
    assert stands(store)[0] == "sending"


def test_only_an_approver_decides(store: Store, clock: HeldClock) -> None:
    planned(store, a_post())
    with pytest.raises(NotAllowed):
        decide(store, "cancel", "hello/first/1", clock, role="author")
    assert stands(store)[0] == "scheduled"


# ── What the database itself holds ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE attempts SET phase = 'confirmed'",
        "DELETE FROM attempts",
        "UPDATE audit SET why = 'another'",
        "DELETE FROM audit",
        "UPDATE deliveries SET frozen = '{}'",
        "UPDATE deliveries SET frozen_hash = ''",
        "UPDATE deliveries SET idem_key = 'another'",
        "UPDATE deliveries SET wire = '{}'",
        "UPDATE deliveries SET wire = NULL",
        "UPDATE deliveries SET state = 'sent'",
        "UPDATE posts SET state = 'done'",
    ],
)
def test_the_database_refuses_to_rewrite_the_past(store: Store, clock: HeldClock, statement: str) -> None:
    planned(store, a_post())
    sending(store, clock)
    with pytest.raises(DBAPIError), store.database.write() as connection:
        connection.execute(text(statement))


def test_a_record_that_was_tampered_with_is_not_sent(database_url: str, clock: HeldClock) -> None:
    store = a_store(database_url)
    planned(store, a_post())
    delivery = claimed(store, clock)
    with store.database.write() as connection:
        if store.database.is_sqlite:
            connection.execute(text("DROP TRIGGER deliveries_frozen"))
        else:
            connection.execute(text("DROP TRIGGER deliveries_frozen ON deliveries"))
        connection.execute(text("UPDATE deliveries SET frozen = replace(frozen, 'hello', 'jello')"))
    assert store.queue.intent(delivery, wire_of(delivery), "worker", clock, TIMINGS) is None
    assert stands(store) == ("failed", "the stored record is not the one that was approved")
    store.close()


# ── Many at once ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_eight_workers_claim_two_hundred_deliveries_each_once_and_never_two_of_an_account(store: Store) -> None:
    accounts = ("first", "second", "third", "fourth")
    planned(store, *(a_post(f"p{n:02}", accounts=accounts, not_after=timedelta(days=36_500)) for n in range(50)))
    clock, lock, clashes, done = WorldClock(), threading.Lock(), [], []
    busy: set[str] = set()

    def work(number: int) -> None:
        for turn in itertools.count(number):
            if len(done) == 200:
                return
            account = accounts[turn % 4]
            delivery = store.queue.claim(account, f"worker-{number}", clock, TIMINGS)
            if delivery is None:
                continue
            with lock:
                clashes.extend({account} & busy)
                busy.add(account)
            assert store.queue.intent(delivery, wire_of(delivery), f"worker-{number}", clock, TIMINGS)
            with lock:
                busy.discard(account)
                done.append(delivery.id)
            store.queue.confirm(delivery, f"worker-{number}", Receipt(delivery.id), clock)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(work, number) for number in range(8)]:
            each.result()
    assert clashes == []
    assert sorted(done) == sorted({d.id for d in store.queue.all()})
    assert store.queue.counts(FOLDER) == {"published": 200}
