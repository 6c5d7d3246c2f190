"""Chromium: the pages as a visitor sees them, driven by playwright, with every host that they ask."""

import os
import shutil
import subprocess
import sys
from typing import Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from . import ServerError

NAMES = ("chromium", "chromium-browser", "google-chrome")
PACKAGES = ("chromium", "fonts-liberation", "fonts-noto-color-emoji")
# Without these Chromium asks its maker's hosts at every start, which a closed network refuses many at a time.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]


def find() -> str | None:
    """Return where Chromium is on this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def install() -> str:
    """Return Chromium's path, installed by apt-get if there is none. Raise ServerError if that is impossible."""
    return find() or _apt_install()


def _apt_install() -> str:
    root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    if not shutil.which("apt-get") or (root and not shutil.which("sudo")):
        raise ServerError("The tests need Chromium. Install it so that `chromium` is a command, then run this again.")
    sys.stderr.write("Installing Chromium for the tests by apt-get (a minute, once)\n")
    _run(*root, "apt-get", "update", "--quiet")
    _run(*root, "apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *PACKAGES)
    path = find()
    if not path:
        raise ServerError("apt-get installed Chromium, but no `chromium` command came of it.")
    return path


def _run(*command: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)  # noqa: S603
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-1000:]
        raise ServerError(f"The tests need Chromium. Install it, since `{' '.join(command)}` failed: {words}")


class Browser:
    """One Chromium. Every page lives in an empty context of its own; `hosts` holds each host:port that a page asked."""

    def __init__(self) -> None:
        self.hosts: set[str] = set()
        self.contexts: list[BrowserContext] = []
        self.playwright: Playwright | None = None

    def __enter__(self) -> Self:
        path = install()
        self.playwright = sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        self.chromium.close()
        if self.playwright:
            self.playwright.stop()

    def page(self, **context: Any) -> Page:
        """Open a page in a new context, as `page(color_scheme="dark", viewport={"width": 390, "height": 844})`."""
        fresh = self.chromium.new_context(**context)
        fresh.set_default_timeout(20_000)
        fresh.on("request", lambda request: self._note(request.url))
        self.contexts.append(fresh)
        page = fresh.new_page()
        page.on("websocket", lambda stream: self._note(stream.url))
        return page

    def forget(self) -> None:
        """Close every page and forget the hosts: the next test begins with an empty browser."""
        for context in self.contexts:
            context.close()
        self.contexts.clear()
        self.hosts.clear()

    def _note(self, url: str) -> None:
        if host := urlsplit(url).netloc:
            self.hosts.add(host)
