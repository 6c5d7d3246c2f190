"""Fixtures: real servers on loopback, a database of each kind, and a fence around all of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mastodon_mock.testing.server import MockServer

from tests import fence
from tests.servers import mastodon
from tests.servers.bluesky import Pds
from tests.servers.chromium import Browser
from tests.servers.jetstream import Jetstream
from tests.servers.postgres import Postgres

# No test reads or writes the keyring of the person who runs it; a test of keyrings brings its own.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"


@pytest.fixture(scope="session", autouse=True)
def fence_raised() -> Iterator[list[str]]:
    """Hold every test of the session on loopback."""
    with fence.raised() as tried:
        yield tried


@pytest.fixture(autouse=True)
def stays_on_loopback(fence_raised: list[str]) -> Iterator[None]:
    """Fail the test that reached beyond loopback, also where its code swallowed the refusal."""
    fence_raised.clear()
    yield
    assert not fence_raised, f"This test left loopback: {', '.join(fence_raised)}"


@pytest.fixture(scope="session")
def pds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pds]:
    """A real Bluesky server, one for all tests: make accounts of your own, and never kill it."""
    with Pds(tmp_path_factory.mktemp("pds")) as server:
        yield server


@pytest.fixture(scope="session")
def jetstream(pds: Pds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jetstream]:
    """A Jetstream that follows `pds`, one for all tests."""
    with Jetstream(tmp_path_factory.mktemp("jetstream"), pds.url) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, one for all tests: `postgres.fresh_database()` gives the URL of a new database."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once per kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'desk.db'}"
    return request.getfixturevalue("postgres").fresh_database()


@pytest.fixture(scope="session")
def mastodon_servers() -> Iterator[tuple[MockServer, MockServer]]:
    """Two Mastodon servers for all tests; take `mastodons` to have them reset."""
    with mastodon.two_servers() as servers:
        yield servers


@pytest.fixture
def mastodons(mastodon_servers: tuple[MockServer, MockServer]) -> tuple[MockServer, MockServer]:
    """Two Mastodon servers as new; the tokens stand in tests/servers/mastodon.py."""
    for server in mastodon_servers:
        server.reset()
    return mastodon_servers


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One Chromium per test file: playwright holds the thread's event loop while it is open."""
    with Browser() as opened:
        yield opened


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A browser without a past: `browser.page()` opens empty pages, `browser.hosts` tells whom they asked."""
    yield chromium
    chromium.forget()
