"""The rehearsal, and worker and dashboard together: they end together, whatever ends one of them."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.desks import PRACTICE, DeskFolder, Done, Running, until
from tests.servers.process import free_ports

SIGINT, SIGTERM, SIGKILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[DeskFolder, Done]:
    """A whole day, as fast as the machine can."""
    desk = DeskFolder(tmp_path_factory.mktemp("rehearsed"))
    words = ("demo", "--no-dashboard", "--until-done", "--speed", "100000", "--json")
    return desk, desk.run(*words, within=180)


@pytest.fixture
def empty(tmp_path: Path) -> DeskFolder:
    """A folder with nothing in it."""
    return DeskFolder(tmp_path)


def children(process: int) -> list[int]:
    """Return the processes that this one started."""
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def lives(process: int) -> bool:
    """Tell whether a process runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def answers(port: int) -> Callable[[], bool]:
    """Return the question whether the page is there."""

    def ask() -> bool:
        try:
            return httpx.get(f"http://localhost:{port}/", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    return ask


def the_dashboard_of(running: Running) -> int:
    """Return the process of the dashboard."""
    [dashboard] = children(running.process.pid)
    return dashboard


def test_a_rehearsed_day_holds_what_the_network_holds(rehearsed: tuple[DeskFolder, Done]) -> None:
    _, done = rehearsed
    assert done.code == 0, done
    day = done.json
    assert day["campaign"] == "asm-day-2015"
    assert day["equal"] is True
    assert set(day["deliveries"]) == {"published"}
    assert [row["what"] for row in day["compared"]] == ["posts out, once each", "mentions", "contributors"]
    for row in day["compared"]:
        assert row["desk"] == row["practice"] > 24, row


def test_a_rehearsal_says_how_far_it_is_where_nobody_watches(rehearsed: tuple[DeskFolder, Done]) -> None:
    lines = rehearsed[1].err.splitlines()
    assert lines[0].endswith("approved for the rehearsal.")
    assert any("deliveries out" in line and "mentions collected" in line for line in lines[1:])


def test_a_rehearsal_writes_its_report(rehearsed: tuple[DeskFolder, Done]) -> None:
    desk, done = rehearsed
    [report] = done.json["report"]
    assert Path(report).is_relative_to(desk.folder / ".cache" / "demo")
    page = Path(report).read_text(encoding="utf-8")
    assert "#shareASM 2015" in page
    assert "ehears" in page  # it says that it is a rehearsal


def test_a_rehearsed_desk_can_be_asked_afterwards(rehearsed: tuple[DeskFolder, Done]) -> None:
    desk, done = rehearsed
    inner = DeskFolder(desk.folder / ".cache" / "demo")
    rows = inner.good("plan", "list", "--json").json
    assert len(rows) == done.json["deliveries"]["published"]
    assert {row["state"] for row in rows} == {"published"}
    assert {row["late_seconds"] for row in rows} == {0.0}
    assert inner.good("db", "rebuild").out == "asm-day-2015: every rollup was right.\n"
    assert inner.good("status").code == 0


def test_a_second_rehearsal_begins_anew_and_can_be_stopped(
    rehearsed: tuple[DeskFolder, Done], empty: DeskFolder
) -> None:
    desk, left = empty, empty.folder / ".cache" / "demo" / "left-by-the-first.txt"
    shutil.copytree(rehearsed[0].folder / ".cache" / "demo", left.parent)
    left.touch()
    with desk.running("demo", "--no-dashboard", "--until-done", "--speed", "60") as running:
        until(lambda: "approved" in running.words, running)
        assert not left.exists()
        until(lambda: (left.parent / "practice-feed.jsonl").exists(), running)
        second = desk.run("demo", "--no-dashboard", "--until-done")
        assert second.refusal == (
            f"error: A rehearsal runs in {left.parent.relative_to(desk.folder)} already."
            " End it first, or run another with --desk."
        )
        assert running.stop(SIGINT, within=10) == 130
        assert running.words.endswith("Stopped before the day was over.\n")


def test_a_folder_that_is_no_rehearsal_is_never_emptied(empty: DeskFolder) -> None:
    dear = empty.folder / ".cache" / "demo" / "dear.txt"
    dear.parent.mkdir(parents=True)
    dear.write_text("mine")
    done = empty.run("demo", "--no-dashboard", "--until-done")
    assert done.refusal == (
        "error: .cache/demo is not a rehearsal desk. Move it away, or run the demo elsewhere with --desk."
    )
    assert dear.read_text() == "mine"


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_ends_a_rehearsal_with_its_dashboard(empty: DeskFolder, number: signal.Signals) -> None:
    [port] = free_ports(1)
    with empty.running("demo", "--port", str(port), "--speed", "600") as running:
        until(lambda: f"The desk is on http://localhost:{port}" in running.words, running)
        dashboard = the_dashboard_of(running)
        until(answers(port), running)
        assert running.stop(number, within=15) == 0
        assert not lives(dashboard)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGKILL])
def test_a_signal_ends_worker_and_dashboard(empty: DeskFolder, number: signal.Signals) -> None:
    [port] = free_ports(1)
    with empty.desk_toml(PRACTICE).running("up", "--port", str(port)) as running:
        until(answers(port), running)
        dashboard = the_dashboard_of(running)
        code = running.stop(number, within=15)
        assert code == (0 if number != SIGKILL else -SIGKILL)
        until(lambda: not lives(dashboard), within=10)


def test_the_worker_ends_with_its_dashboard(empty: DeskFolder) -> None:
    [port] = free_ports(1)
    with empty.desk_toml(PRACTICE).running("up", "--port", str(port)) as running:
        until(answers(port), running)
        os.kill(the_dashboard_of(running), SIGKILL)
        assert running.process.wait(15) == 1
        assert running.words.endswith("The dashboard ended by itself; its words stand above.\n")


def test_the_dashboard_alone_ends_on_ctrl_c(empty: DeskFolder) -> None:
    [port] = free_ports(1)
    with empty.desk_toml(PRACTICE).running("dashboard", "--port", str(port)) as running:
        until(lambda: "Ctrl-C stops it" in running.words, running)
        dashboard = the_dashboard_of(running)
        assert answers(port)()
        assert running.stop(SIGINT, within=15) == 0
        assert not lives(dashboard)
