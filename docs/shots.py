"""Shots: the screenshots of the documentation, taken from a desk that is made for them. Run as `python docs/shots.py`."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from playwright.sync_api import BrowserContext, Page  # noqa: E402

from tests.dashboard_desk import example_desk  # noqa: E402
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


@contextmanager
def dashboard(desk: Path) -> Iterator[str]:
    """Run the dashboard on this desk, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboards" / "app.py")]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    environment = {"SHAREASM_DESK": str(desk), "PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(desk)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # noqa: S603
    try:
        yield _when_up(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(10)


def open_page(page: Page, address: str) -> None:
    """Open a page of the dashboard and wait until all of it stands."""
    page.goto(address)
    page.get_by_text(FOOT).wait_for()
    page.locator('[data-testid="stSkeleton"]').wait_for(state="detached")
    page.wait_for_function("document.querySelectorAll('[data-stale=true]').length === 0")


def shoot(browser: Browser, address: str, page_name: str, look: str) -> Path:
    """Take one picture of a whole page, and return its file."""
    page = browser.page(**LOOKS[look])
    open_page(page, f"{address}/{PAGES[page_name]}")
    tall = page.evaluate("Math.max(...[...document.querySelectorAll('*')].map(one => one.scrollHeight))")
    page.set_viewport_size({"width": LOOKS[look]["viewport"]["width"], "height": min(tall, TALLEST)})
    page.wait_for_timeout(1_500)  # the charts draw once more in their new size
    file = SHOTS / f"{page_name}-{look}.png"
    page.screenshot(path=file)
    _close(page.context)
    return file


def main() -> None:
    """Take every picture."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        with dashboard(make_desk(Path(folder) / "desk")) as address:
            for page_name in PAGES:
                for look in LOOKS:
                    file = shoot(browser, address, page_name, look)
                    sys.stdout.write(f"{file.relative_to(ROOT)}\n")


def _close(context: BrowserContext) -> None:
    context.close()


def _when_up(address: str, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(f"{address}/_stcore/health", timeout=2):  # noqa: S310 - our own process on loopback
                return address
        except (URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError("The dashboard did not start.")


main()
