"""Networks: one module per network behind one Protocol.

A new network is one module in this folder: a file, or a folder where it needs rooms of its own. It defines

    LIMITS                       what the network accepts when its server says nothing else
    open_account(settings)       -> Account    how the desk posts there
    open_source(settings)        -> Source     how the desk listens there

and imports its own client library, which no other file may. It is found by its name and held to the shared
contract tests in `tests/test_network_contract.py`. It knows neither the store nor another network.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from shareasm.errors import ConfigError
from shareasm.model import Clock, Frozen, Limits, LookUp, Media, Outcome, Page, Query, Receipt, Thread, Wire


@dataclass(frozen=True, slots=True)
class Setting:
    """What a network's file is given to open an account or a source.

    `secret(field)` returns the value of SHAREASM_<ACCOUNT>_<FIELD> and raises ConfigError, with what to do, when there
    is none. `folder` is the desk's own folder, for a network that keeps something there (`practice` keeps its feed).
    `save(name, text)` and `load(name)` keep a session between runs, so that logins stay scarce.
    """

    network: str
    name: str
    server: str
    handle: str
    folder: Path
    clock: Clock
    secret: Callable[[str], str]
    protocol: str = ""
    save: Callable[[str, str], None] = lambda _name, _text: None
    load: Callable[[str], str | None] = lambda _name: None
    options: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a network says we are: the answer to `account test`."""

    handle: str
    native_id: str
    server: str
    words: str = ""


class Account(Protocol):
    """Our login on one network, as the publisher sees it.

    `keeps_key` says how long the network itself refuses to make the same post twice: None never, so that after an
    unknown outcome the desk may only look and ask. `settle` is how long after an unknown outcome the first look-up
    is worth anything.
    """

    keeps_key: timedelta | None
    settle: timedelta

    def identity(self) -> Identity:
        """Ask the network who we are. Raise LoginNeeded, Refused, RateLimited or Unreachable."""
        ...

    def limits(self) -> Limits:
        """Return what this server accepts; the network's LIMITS where it does not say."""
        ...

    def prepare(self, media: Media, content: bytes) -> Mapping[str, object]:
        """Upload one picture and return, as JSON values, what `compose` needs to name it.

        Repeating it is harmless: an upload is invisible. Raise NetworkError when it was not taken.
        """
        ...

    def compose(self, frozen: Frozen, thread: Thread | None, media: Sequence[Mapping[str, object]]) -> Wire:
        """Return the body of the request. Pure: the same arguments give the same bytes, and nothing is asked."""
        ...

    def send(self, wire: Wire) -> Outcome:
        """Try once to make the post. Never raises for what the network or the wire did, never tries twice."""
        ...

    def look_up(self, wire: Wire) -> LookUp:
        """Look whether the post is there. Never raises for what the network or the wire did."""
        ...

    def delete(self, receipt: Receipt) -> None:
        """Take a post of ours away. Deleting what is gone is not an error. Raise NetworkError otherwise."""
        ...


class Source(Protocol):
    """One place where a network's public posts can be read."""

    network: str
    server: str

    def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
        """Yield everything after `cursor`, oldest first, each page with the cursor that stands behind it.

        With `live` the iterator goes on for ever and yields at least one page a second, an empty one when all is quiet,
        so that its caller can stop and sees that the source is alive; without it, it ends when it has passed this
        moment. Raises NetworkError when the source cannot be read on; what was yielded before stays good. Nothing is
        skipped silently: what could not be decoded or was outside the server's window is a Hole in the page.
        """
        ...


class Network(Protocol):
    """What the file of a network defines."""

    LIMITS: Limits

    def open_account(self, setting: Setting, /) -> Account:
        """Return our login, without asking the network anything yet."""
        ...

    def open_source(self, setting: Setting, /) -> Source:
        """Return a place to listen, without asking the network anything yet."""
        ...


def names() -> tuple[str, ...]:
    """Return the names of all networks, which are the names of their files."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def network(name: str) -> Network:
    """Return the network's file. Raise ConfigError when there is none of this name."""
    if name not in names():
        raise ConfigError(f"There is no network “{name}”.", f"Known are {', '.join(names())}.")
    return cast(Network, import_module(f"{__name__}.{name}"))


def limits() -> dict[str, Limits]:
    """Return what each network accepts when its server says nothing else."""
    return {name: network(name).LIMITS for name in names()}
