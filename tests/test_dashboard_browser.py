"""The pages as people use them: journeys in a real browser, in light and dark and on a phone, with every host asked."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect

from shareasm.model import DeliveryState, PostState
from tests.dashboard_desk import FOLDER, HOSTILE_NAME, HOSTILE_TEXT, dashboard, example_desk, opened
from tests.servers.chromium import Browser

FOOT = "no third parties"
WIDTH = "Math.max(...[...document.querySelectorAll('html, [data-testid=stMain]')].map(one => one.scrollWidth))"
Look = dict[str, Any]
PHONE: Look = {"viewport": {"width": 390, "height": 844}}
DESKTOP: Look = {"viewport": {"width": 1440, "height": 1000}}
LOOKS: dict[str, Look] = {
    "light": {**DESKTOP, "color_scheme": "light"},
    "dark": {**DESKTOP, "color_scheme": "dark"},
    "phone": {**PHONE, "color_scheme": "light"},
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk for reading: no test writes to it."""
    return example_desk(tmp_path_factory.mktemp("read") / "desk", gap=True, hostile=True, mentions=400).folder


@pytest.fixture(scope="module")
def address(desk: Path) -> Iterator[str]:
    """The dashboard of the desk for reading."""
    with dashboard(desk) as found:
        yield found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A desk of the test's own with its dashboard: folder and address."""
    folder = example_desk(tmp_path / "desk", mentions=40).folder
    with dashboard(folder) as found:
        yield folder, found


def open_page(browser: Browser, address: str, name: str = "", look: Look = DESKTOP) -> Page:
    """Open a page and wait until all of it stands."""
    page = browser.page(**look)
    page.goto(f"{address}/{name}")
    page.get_by_text(FOOT).wait_for()
    page.wait_for_function("document.querySelectorAll('[data-stale=true]').length === 0")
    return page


def eventually(is_so: Callable[[], bool]) -> bool:
    """Return True as soon as it is so, False when it is not so within ten seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if is_so():
            return True
        time.sleep(0.1)
    return False


def say_name(page: Page, name: str) -> None:
    page.get_by_role("textbox", name="Your name").fill(name)


# ── Journeys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_post_is_approved_and_waits_for_its_time(own: tuple[Path, str], browser: Browser) -> None:
    folder, address = own
    page = open_page(browser, address, "plan")
    expect(page.get_by_role("heading", name="9 posts need approval")).to_be_visible()
    page.get_by_role("button", name="Approve", exact=True).first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Approve")).to_be_disabled()
    say_name(page, "Ana Approver")
    dialog.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="8 posts need approval")).to_be_visible()
    page.get_by_role("button", name="Approve", exact=True).first.click()
    expect(page.get_by_role("heading", name="7 posts need approval")).to_be_visible()
    with opened(folder) as store:
        approved = [one for one in store.posts.all(FOLDER) if one.approved_by == "Ana Approver"]
        waiting = [one for one in store.queue.all(FOLDER) if one.post in {each.post.id for each in approved}]
    assert {one.state for one in approved} == {PostState.APPROVED}
    assert {one.state for one in waiting} == {DeliveryState.SCHEDULED}


def test_a_stop_shows_on_both_pages_until_somebody_resumes(own: tuple[Path, str], browser: Browser) -> None:
    folder, address = own
    page = open_page(browser, address)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("textbox", name="Why").fill("A wrong figure went out")
    say_name(page, "Ana")
    page.get_by_role("button", name="Stop everything").click()
    band = page.get_by_text("Stopped: everything. Nothing of it goes out.")
    expect(band).to_be_visible()
    page.get_by_role("link", name="Plan", exact=True).click()
    expect(page.get_by_role("heading", name="9 posts need approval")).to_be_visible()
    expect(band).to_be_visible()
    expect(page.get_by_text("A wrong figure went out")).to_be_visible()
    with opened(folder) as store:
        assert [(one.scope, one.by) for one in store.switches.on()] == [("all", "Ana")]
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(band).to_have_count(0)
    with opened(folder) as store:
        assert store.switches.on() == []


def test_a_stop_of_one_language_names_it(own: tuple[Path, str], browser: Browser) -> None:
    folder, address = own
    page = open_page(browser, address, look=PHONE)
    page.get_by_role("button", name="Stop", exact=True).click()
    page.get_by_role("dialog").get_by_text("One language").click()
    page.get_by_role("combobox", name="Which one").click()
    page.get_by_role("option", name="Swahili").click()
    say_name(page, "Ana")
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_text("Stopped: Swahili. Nothing of it goes out.")).to_be_visible()
    with opened(folder) as store:
        assert [(one.scope, one.key) for one in store.switches.on()] == [("language", "sw")]


def test_what_was_held_back_is_released_by_one_person(own: tuple[Path, str], browser: Browser) -> None:
    folder, address = own
    key = f"{FOLDER}/round-up.en/our-x/1"
    page = open_page(browser, address, "plan")
    card = page.locator(".st-key-" + f"card_{key}".replace("/", "-").replace(".", "-"))
    card.get_by_role("button", name="Send now").click()
    page.get_by_role("textbox", name="Why").fill("It is still true")
    say_name(page, "Ana")
    page.get_by_role("button", name="Send it").click()
    expect(page.get_by_role("heading", name="5 deliveries need your word")).to_be_visible()
    with opened(folder) as store:
        assert (store.queue.get(key).state, store.queue.get(key).reason) == (
            DeliveryState.SCHEDULED, "Ana: It is still true",
        )  # fmt: skip


def test_a_stop_by_somebody_else_appears_by_itself(own: tuple[Path, str], browser: Browser) -> None:
    folder, address = own
    page = open_page(browser, address)
    with opened(folder) as store:
        now = store.workers.pulse(datetime.now(UTC)).desk_now
        assert now is not None
        store.switches.pause("network", "x", by="desk", role="desk", reason="402: no credits left", at=now)
    expect(page.get_by_text("Stopped: X. Nothing of it goes out.")).to_be_visible()
    expect(page.get_by_text("402: no credits left")).to_be_visible()


# ── Every look of every page ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["", "plan"])
@pytest.mark.parametrize("look", LOOKS)
def test_a_page_fits_its_screen_and_asks_nobody_else(name: str, look: str, address: str, browser: Browser) -> None:
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "_stcore" not in str(message.location.get("url", "")):
            said.append(message.text)  # Streamlit looks for its own server in several places at first

    page = browser.page(**LOOKS[look])
    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(f"{address}/{name}")
    page.get_by_text(FOOT).wait_for()
    page.wait_for_timeout(1_000)
    assert page.evaluate(WIDTH) <= LOOKS[look]["viewport"]["width"]
    assert browser.hosts == {urlsplit(address).netloc}
    assert said == []


def test_a_hostile_mention_does_nothing(address: str, browser: Browser) -> None:
    page = open_page(browser, address)
    latest = page.get_by_text(HOSTILE_TEXT, exact=True)
    expect(latest).to_be_visible()
    expect(page.get_by_text(HOSTILE_NAME, exact=True).first).to_be_visible()
    assert page.locator('a[href*="evil"], img[src*="evil"], a[href^="javascript"]').count() == 0
    assert browser.hosts == {urlsplit(address).netloc}


def test_the_period_lives_in_the_address(address: str, browser: Browser) -> None:
    page = open_page(browser, address, "?period=Hour")
    expect(page.get_by_text("Mentions per minute by network")).to_be_visible()
    page.get_by_text("All", exact=True).click()
    expect(page.get_by_text("Mentions per 15 minutes by network")).to_be_visible()
    assert eventually(lambda: "period=All" in page.url)


def test_the_stop_button_is_one_thumb_away_on_a_phone(address: str, browser: Browser) -> None:
    page = open_page(browser, address, look=PHONE)
    box = page.get_by_role("button", name="Stop", exact=True).bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 844
    assert box["height"] >= 24
