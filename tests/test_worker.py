"""The worker: the clock that calls publish and collect, as a process and in pieces."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shareasm import worker as clockwork
from shareasm.desk import ListenSettings, read_desk
from shareasm.errors import ConfigError
from shareasm.model import Campaign, DeliveryState
from shareasm.store.workers import Worker as Process
from shareasm.worker import Listening, Worker, is_gone, machine, this_process
from tests.desks import CAMPAIGN, PRACTICE, DeskFolder, Running, until
from tests.servers.bluesky import Pds
from tests.servers.process import free_ports

SOON = timedelta(seconds=10)
"""How late a post may be here: correctness on a machine that does other things too, not speed."""


@pytest.fixture
def desk(tmp_path: Path) -> DeskFolder:
    """A desk with the practice network and a campaign, not synced yet."""
    return DeskFolder(tmp_path).desk_toml(PRACTICE).campaign()


def at_bluesky(folder: Path, server: str, handle: str, password: str) -> DeskFolder:
    """Make a desk with one Bluesky account and a campaign."""
    words = f'[accounts.org-bluesky]\nnetwork = "bluesky"\nserver = "{server}"\nhandle = "{handle}"\n'
    return DeskFolder(folder, {"SHAREASM_ORG_BLUESKY_PASSWORD": password}).desk_toml(words).campaign()


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def plan(desk: DeskFolder, *dues: datetime) -> None:
    """Write, sync and approve a post for each of these moments."""
    for number, due in enumerate(dues):
        desk.post(f"post-{number}", due, f"{number} #shareASM")
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "Ana")


def is_out(desk: DeskFolder, running: Running, count: int) -> None:
    """Wait until so many deliveries are out."""
    with desk.store() as store:
        until(lambda: store.queue.counts().get("published", 0) == count, running)


def test_a_worker_ends_at_once_when_it_is_told_to(desk: DeskFolder) -> None:
    plan(desk, now() + timedelta(hours=1))
    with desk.worker() as running:
        assert desk.call("status", "--json").json["worker"]["alive"] is True
        assert running.stop(within=5) == 0
    state = desk.call("status", "--json").json
    assert state["worker"]["alive"] is False
    assert state["problems"] == ["The worker is not running and posts wait to go out. Start it with `shareasm up`."]


def test_posts_go_out_in_order_and_at_their_moment(desk: DeskFolder) -> None:
    first = now() + timedelta(seconds=5)
    plan(desk, *(first + timedelta(seconds=n) for n in (0, 1, 1, 3)))
    with desk.worker() as running:
        is_out(desk, running, 4)
    with desk.store() as store:
        deliveries = store.queue.all()
    sent = [d.sent_at for d in deliveries if d.sent_at is not None]
    assert len(sent) == 4
    assert sent == sorted(sent)
    for d, at in zip(deliveries, sent, strict=True):
        assert timedelta(0) <= at - d.due_at < SOON
        assert d.tries == 1


def test_what_is_synced_while_it_runs_is_sent_and_listened_to(desk: DeskFolder) -> None:
    with desk.worker() as running:
        plan(desk, now() + timedelta(seconds=1))
        is_out(desk, running, 1)
        with desk.store() as store:
            until(lambda: [s.state for s in store.sources.states()] == ["complete"], running)
            ours = until(lambda: store.conversation.newest(store.campaigns.id_of("day")), running)
    assert "0 #shareASM" in {one.text for one in ours}


def test_an_edited_campaign_is_listened_to_by_its_new_words(tmp_path: Path, pds: Pds) -> None:
    desk, ana = at_bluesky(tmp_path, pds.url, "desk.test", "unused"), pds.create_account("ana")
    desk.good("plan", "sync")
    with desk.worker() as running, desk.store() as store:
        until(lambda: [s.state for s in store.sources.states()] == ["complete"], running)
        said = [pds.create_record(ana, "Before the edit #tagoftheafternoon")["uri"]]
        desk.campaign(words=CAMPAIGN.replace('"shareASM2015"', '"tagoftheafternoon"')).good("plan", "sync")
        said.append(pds.create_record(ana, "After it #tagoftheafternoon")["uri"])
        campaign_id = store.campaigns.id_of("day")
        until(lambda: {one.native_id for one in store.conversation.newest(campaign_id)} >= set(said), running)


def test_an_account_that_cannot_be_opened_is_told_and_the_others_go_on(desk: DeskFolder) -> None:
    desk.desk_toml(PRACTICE + '\n[accounts.org-nowhere]\nnetwork = "nowhere"\nhandle = "IIED"\n')
    desk.post("one", now() + timedelta(seconds=2), "One #shareASM", accounts="[rehearsal]")
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "Ana")
    with desk.worker() as running:
        is_out(desk, running, 1)
        assert running.words.count("There is no network “nowhere”") == 1


def test_a_server_that_is_down_at_the_start_costs_nothing_but_time(tmp_path: Path, pds: Pds) -> None:
    account, [port] = pds.create_account("desk"), free_ports(1)
    desk = at_bluesky(tmp_path, f"http://127.0.0.1:{port}", account.handle, account.password)
    plan(desk, now() + timedelta(seconds=1))
    with desk.worker() as running, desk.store() as store:
        until(lambda: store.workers.closed(datetime.now(UTC)), running)
        until(lambda: any(s.gaps for s in store.sources.states()), running)
        state = desk.call("status", "--json")
        [delivery] = store.queue.all()
        assert (delivery.state, delivery.tries) == (DeliveryState.SCHEDULED, 0)
        assert running.stop(within=10) == 0
    assert state.code == 1
    assert state.json["worker"]["alive"] is True
    [rests] = [words for words in state.json["problems"] if "rests until" in words]
    assert f"Bluesky's server 127.0.0.1:{port} cannot be reached" in rests
    [source] = state.json["sources"]
    assert source["state"] == "gap open"
    assert "Connection refused" in source["gaps"][0]["why"] or "connection refused" in source["gaps"][0]["why"]


def test_a_wrong_password_stops_the_account_once_and_waits_for_a_person(tmp_path: Path, pds: Pds) -> None:
    account = pds.create_account("desk")
    desk = at_bluesky(tmp_path, pds.url, account.handle, "wrong")
    plan(desk, now() + timedelta(seconds=2))
    with desk.worker() as running, desk.store() as store:
        until(lambda: store.queue.counts().get("paused"), running)
        state = desk.call("status", "--json").json
        assert running.words.count("does not accept the password") == 1
    sentence = f"Bluesky does not accept the password of “{account.handle}”."
    assert [(s["scope"], s["key"], s["by"]) for s in state["switches"]] == [("account", "org-bluesky", "desk")]
    assert any(sentence in problem for problem in state["problems"])
    mended = DeskFolder(tmp_path, {"SHAREASM_ORG_BLUESKY_PASSWORD": account.password})
    mended.good("plan", "resume", "--account", "org-bluesky", "--by", "Ana", "--why", "new password")
    mended.good("plan", "send", "day/post-0.en/org-bluesky/1", "--by", "Ana", "--why", "new password")
    with mended.worker() as running:
        is_out(mended, running, 1)
    assert [record["value"]["text"] for record in pds.records(account.did)] == ["0 #shareASM"]


def test_what_waits_for_an_account_that_the_desk_lost_needs_a_person(desk: DeskFolder) -> None:
    desk.desk_toml(PRACTICE + '\n[accounts.second]\nnetwork = "practice"\nhandle = "second"\n')
    desk.post("one", now() + timedelta(seconds=1), "One #shareASM", accounts="[second]", not_after="1m")
    desk.good("plan", "sync")
    desk.good("plan", "approve", "--all", "--by", "Ana")
    desk.desk_toml(PRACTICE)
    state = desk.call("status", "--json")
    assert state.code == 1
    assert state.json["problems"][1:] == [
        "day/one.en/second/1 waits for the account second, which desk.toml does not have."
    ]


def test_a_pause_stops_what_falls_due_and_nothing_bursts_out_afterwards(desk: DeskFolder) -> None:
    plan(desk, now() + timedelta(seconds=4))
    desk.good("plan", "pause", "--by", "Ana", "--why", "bad news")
    with desk.worker() as running, desk.store() as store:
        until(lambda: store.queue.counts().get("paused"), running)
        desk.good("plan", "resume", "--by", "Ana", "--why", "over")
        time.sleep(1.5)  # a burst would come with the next tick
        assert store.queue.counts() == {"paused": 1}
        desk.good("plan", "send", "day/post-0.en/rehearsal/1", "--by", "Ana", "--why", "still true")
        is_out(desk, running, 1)


def test_what_a_killed_worker_held_is_taken_back_at_once(desk: DeskFolder) -> None:
    plan(desk, now() + timedelta(seconds=3))
    with desk.store() as store:
        with desk.worker() as running:
            until(lambda: store.sources.states(), running)
            running.kill()
        assert len(store.workers.all()) == 1
        with desk.worker() as running:
            until(lambda: len(store.workers.all()) == 1, running)
            is_out(desk, running, 1)
            until(lambda: [s.state for s in store.sources.states()] == ["complete"], running, within=15)


def test_a_process_is_gone_only_where_that_is_sure() -> None:
    me = this_process()
    assert not is_gone(me)
    assert is_gone(Process(me.id, me.machine, me.pid, "1"))  # the number was given to another process since
    assert is_gone(Process("x", machine(), 2**22 + 1, "1"))
    assert not is_gone(Process("x", "another machine", 2**22 + 1, "1"))


# What listening does when something cannot be opened, in this process and without waiting a minute.


@pytest.fixture
def here(desk: DeskFolder) -> Iterator[Worker]:
    """A worker in this process."""
    desk.good("plan", "sync")
    with desk.store() as store:
        worker = Worker(read_desk(desk.folder), store)
        yield worker
        worker.stopping.set()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("listen-")]


def test_each_place_is_listened_to_by_one_thread(here: Worker) -> None:
    listening = Listening(here, here.campaigns_on)
    for _ in range(3):
        listening.keep_up()
    assert threads() == ["listen-practice"]
    here.stopping.set()
    listening.join()
    assert threads() == []
    assert listening.is_idle()


def test_a_campaign_that_is_over_is_no_longer_listened_to(here: Worker) -> None:
    campaigns: list[Campaign] = here.campaigns_on()
    listening = Listening(here, lambda: campaigns)
    listening.keep_up()
    campaigns = []
    listening.keep_up()
    until(listening.is_idle)
    assert threads() == []


def test_a_place_that_cannot_be_opened_is_told_once_and_tried_again_after_a_minute(
    here: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = ListenSettings("nowhere")
    here.desk = replace(here.desk, listen=(nowhere,))
    listening = Listening(here, here.campaigns_on)
    for _ in range(3):
        listening.keep_up()
    monkeypatch.setattr(clockwork, "OPEN_AGAIN_SECONDS", 0.0)
    for _ in range(3):
        listening.keep_up()
    told = [words for _, kind, words in here.store.workers.notes() if kind == "source"]
    assert [words.partition(" Known")[0] for words in told] == ["nowhere: There is no network “nowhere”."]
    assert threads() == ["listen-practice"]


def test_an_account_that_desk_toml_does_not_name_is_refused(here: Worker) -> None:
    with pytest.raises(ConfigError, match=r"desk\.toml has no account “nobody”\. It has rehearsal\."):
        clockwork.open_account(here.desk, "nobody", here.clock)
