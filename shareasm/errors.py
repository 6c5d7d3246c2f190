"""Errors: what happened and what to do, in words a person reads.

    DeskError
    ├── ConfigError        desk.toml, the environment, a key
    ├── PlanError          a post file, campaign.toml, a picture
    ├── ArchiveError       somebody else's collection
    ├── StoreError         the database
    │   ├── DatabaseNewer  it was written by a newer shareasm
    │   └── DiskFull       nothing more can be written
    ├── NetworkError       a network could not do what we asked
    │   ├── RateLimited    not now; `until` says when
    │   ├── Refused        not like this; the network's own words
    │   ├── LoginNeeded    it does not know our key
    │   ├── NoCredits      it wants money first
    │   └── Unreachable    no answer, or none that can be read
    ├── NotAllowed         this person may not do this
    └── StateError         not from this state

They are raised where the fault is known and caught at two edges only: `cli.main` and `dashboards/ui.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, as a value: where it stands, what it is and what to do."""

    where: str
    why: str
    what_to_do: str = ""
    level: Literal["error", "warning"] = "error"
    """An error keeps the post at home; a warning asks for a second look."""

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.where}:" if self.where else "", self.why, self.what_to_do) if part)


class DeskError(Exception):
    """Something could not be done."""

    def __init__(self, happened: str = "", what_to_do: str = "", *, where: str = "") -> None:
        self.happened = happened or (type(self).__doc__ or "").split("\n", maxsplit=1)[0]
        self.what_to_do = what_to_do
        self.where = where
        super().__init__(str(Problem(where, self.happened, what_to_do)))


class ConfigError(DeskError):
    """The desk is not set up as its file says."""


class PlanError(DeskError):
    """The plan has a mistake."""


class ArchiveError(DeskError):
    """This file is not a collection that the desk can read."""


class StoreError(DeskError):
    """The database did not do what was asked."""


class DatabaseNewer(StoreError):
    """This database was written by a newer shareasm."""


class DiskFull(StoreError):
    """The disk is full."""


class NetworkError(DeskError):
    """A network did not do what was asked."""

    def __init__(self, happened: str = "", what_to_do: str = "", *, network: str = "", account: str = "") -> None:
        super().__init__(happened, what_to_do, where=account or network)
        self.network = network
        self.account = account


class RateLimited(NetworkError):
    """The network asks us to wait."""

    def __init__(self, until: datetime | None, happened: str = "", *, network: str = "", account: str = "") -> None:
        super().__init__(happened, network=network, account=account)
        self.until = until


class Refused(NetworkError):
    """The network refused."""


class LoginNeeded(NetworkError):
    """The network does not know this key."""


class NoCredits(NetworkError):
    """The network account has no credits left."""


class Unreachable(NetworkError):
    """The network did not answer."""


class NotAllowed(DeskError):
    """This person may not do this."""


class StateError(DeskError):
    """This cannot be done from the present state."""
