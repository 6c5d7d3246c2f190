"""Practice: the desk's own rehearsal network, with an invented audience that answers, in one file of its folder.

Nothing here leaves the machine and nobody on it exists. The feed is a file of JSON lines that only grows: the accounts
of the audience, every post, like, edit and deletion, ours and theirs. Nobody schedules the audience: whoever asks the
network something at a moment first lets the audience live up to that moment, under the feed's lock. What it does in
each ten seconds of desk time follows from the seed and from the feed so far, and from nothing else, so that one plan,
one seed and one clock give one feed at any speed, through any number of processes and any restart.

    account   our login: prepare, compose, send, look up, delete     audience  what its people do in ten seconds
    source    the public feed, page by page                          cast      who they are and what they may say
    feed      the file, its lock and its torn last line              state     what the lines say
    recount   the same file counted a second time, for the tests     audience.toml  names, places and words

Eight files behind one door, because the audience is a program of its own. `[accounts.NAME.options]` in desk.toml takes
`seed` (any text), `audience` (accounts, 160), `mood` ("quiet", "warm", "busy") and, for rehearsing bad days, `faults`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from shareasm.model import Limits, utc
from shareasm.networks import Account, Setting, Source

LIMITS = Limits(count="graphemes", text=500, pictures=4, alt_text=1_000, cards=True)
FEED = "practice-feed.jsonl"
SEED = "2015"
AUDIENCE = 160


class Person(NamedTuple):
    """One declared account of the audience, as a row of a people file."""

    account: str
    group: str
    country: str
    language: str
    role: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What the practice network holds under the hashtags, counted straight from its file.

    `mentions` are posts whose latest text carries a hashtag, and reposts of these, deleted ones included; `kinds` and
    `contributors` are of these, `languages` of the spoken ones. The four sums of counts are over spoken mentions that
    still stand. `ours` are posts of the desk's own accounts, tagged or not; `untagged` what else was said.
    """

    mentions: int
    kinds: Mapping[str, int]
    languages: Mapping[str, int]
    contributors: int
    ours: int
    untagged: int
    edited: int
    deleted: int
    likes: int
    reposts: int
    replies: int
    quotes: int


def open_account(setting: Setting) -> Account:
    """Return our login on the practice network, without touching its file."""
    from shareasm.networks.practice.account import PracticeAccount  # the limits are asked for without the machinery

    return PracticeAccount(setting)


def open_source(setting: Setting) -> Source:
    """Return the practice network's public feed, without touching its file."""
    from shareasm.networks.practice.source import PracticeSource

    return PracticeSource(setting)


def open_practice(
    folder: Path,
    *,
    hashtag: str,
    start: datetime,
    end: datetime,
    seed: object = SEED,
    audience: int = AUDIENCE,
    mood: str = "warm",
) -> None:
    """Give a campaign its audience before anyone listens. Repeating it changes nothing but a later end.

    Without it the first listener opens the campaign, with the options of its setting.
    """
    from shareasm.networks.practice.cast import Taste
    from shareasm.networks.practice.feed import Feed

    feed = Feed(folder)
    with feed.locked() as file:
        feed.opening(file, hashtag, utc(start), utc(end), Taste(str(seed), audience, mood))


def people(folder: Path, *, seed: object = SEED, audience: int = AUDIENCE) -> list[Person]:
    """Return the accounts that declared a group, as rows for a people file. Read-only.

    They are those of the feed in this folder; without one, those that an audience of this seed will have.
    """
    from shareasm.networks.practice.cast import invite
    from shareasm.networks.practice.recount import members

    known = members(folder) or invite(str(seed), audience)
    return [Person(m.handle, m.group, m.country, m.languages[0], m.role) for m in known if m.declared]


def truth(folder: Path, *, hashtags: Sequence[str] = ()) -> Truth:
    """Count the feed straight from its file, by rules written a second time. Read-only.

    `hashtags` are the spellings that count, by default those that the audience was opened with.
    """
    from shareasm.networks.practice.recount import recount

    return recount(folder, hashtags)
