"""Mastodon: two servers of the package mastodon-mock, which is lenient: what it gets wrong needs a strict fake."""

from collections.abc import Iterator
from contextlib import contextmanager

from mastodon_mock.config import MastodonMockConfig, SeedAccount, SeedConfig
from mastodon_mock.testing.server import MockServer

TOKENS = {"desk": "token-of-desk", "other": "token-of-other"}


def server(domain: str) -> MockServer:
    """Return a server, not started, with the accounts `desk` and `other`. Every server needs a domain of its own."""
    accounts = [SeedAccount(username=name, access_token=token) for name, token in TOKENS.items()]
    return MockServer(config=MastodonMockConfig(domain=domain, seed=SeedConfig(accounts=accounts)))


@contextmanager
def two_servers() -> Iterator[tuple[MockServer, MockServer]]:
    """Run two servers, `one.base_url` and `two.base_url`; each has `reset()` and `fault(...)`."""
    with server("one.test") as one, server("two.test") as two:
        yield one, two
