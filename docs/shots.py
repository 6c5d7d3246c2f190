"""Shots: the screenshots of the documentation, from a desk that is made for them. Run as `python docs/shots.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import Page  # noqa: E402

from tests.dashboard_desk import dashboard, example_desk  # noqa: E402
from tests.servers.chromium import Browser  # noqa: E402

SHOTS = ROOT / "docs" / "shots"
PAGES = {"today": "", "plan": "plan"}
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1440, "height": 1000}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 1000}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
FOOT = "no third parties"
TALLEST = 3_200
"""Pixels: a longer page is cut, so that a picture stays one that somebody looks at."""


def make_desk(folder: Path) -> Path:
    """Make the desk that is photographed, and return its folder."""
    return example_desk(folder, gap=True).folder


def open_page(page: Page, address: str) -> None:
    """Open a page of the dashboard and wait until all of it stands."""
    page.goto(address)
    page.get_by_text(FOOT).wait_for()
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton], [data-stale=true]')")


def shoot(browser: Browser, address: str, page_name: str, look: str) -> Path:
    """Take one picture of a whole page, and return its file."""
    page = browser.page(**LOOKS[look])
    open_page(page, f"{address}/{PAGES[page_name]}")
    tall = page.evaluate("Math.max(...[...document.querySelectorAll('*')].map(one => one.scrollHeight))")
    page.set_viewport_size({"width": LOOKS[look]["viewport"]["width"], "height": min(tall, TALLEST)})
    page.wait_for_timeout(1_500)  # the charts draw once more in their new size
    file = SHOTS / f"{page_name}-{look}.png"
    page.screenshot(path=file)
    page.context.close()
    browser.contexts.remove(page.context)
    return file


def main() -> None:
    """Take every picture."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        desk = make_desk(Path(folder) / "desk")
        with dashboard(desk) as address, Browser() as browser:
            for page_name in PAGES:
                for look in LOOKS:
                    file = shoot(browser, address, page_name, look)
                    sys.stdout.write(f"{file.relative_to(ROOT)}\n")


main()
