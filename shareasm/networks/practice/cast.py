"""The cast: who is in the audience and what they may say, from `audience.toml`. All of them are invented."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import NamedTuple

import msgspec
import regex

from shareasm.errors import ConfigError
from shareasm.networks.practice import AUDIENCE, SEED
from shareasm.networks.practice.state import Member

MOODS = {"quiet": 0.4, "warm": 1.0, "busy": 2.0}
GROUP_OF = {
    "m": "miner",
    "c": "community",
    "g": "government",
    "o": "company",
    "r": "researcher",
    "n": "NGO",
    "d": "donor",
    "p": "media",
}


@dataclass(frozen=True, slots=True)
class Taste:
    """What a rehearsal asks of its audience."""

    seed: str = SEED
    audience: int = AUDIENCE
    mood: str = "warm"

    def __post_init__(self) -> None:
        if self.mood not in MOODS:
            raise ConfigError(f"The practice network knows no mood “{self.mood}”.", f"Known are {', '.join(MOODS)}.")
        if not 10 <= self.audience <= 5_000:
            raise ConfigError(f"An audience of {self.audience} cannot be rehearsed.", "Ask for 10 to 5000 accounts.")


def taste_of(options: Mapping[str, object]) -> Taste:
    """Return what an account's options ask for. Raise ConfigError when they make no sense."""
    audience = options.get("audience", AUDIENCE)
    if not isinstance(audience, int):
        raise ConfigError(f"The audience of the practice network is a number of accounts, not {audience!r}.")
    return Taste(str(options.get("seed", SEED)), audience, str(options.get("mood", "warm")))


class Line(NamedTuple):
    """One thing that somebody of these groups may say."""

    key: str
    topic: str
    groups: frozenset[str]
    text: str


class Material(msgspec.Struct):
    """The audience's file: who is invited, where they live and what they may say."""

    bots: list[str]
    flood: str
    abroad: list[str]
    links: list[str]
    fields: list[str]
    languages: dict[str, list[str]]
    places: dict[str, list[str]]
    spelled: dict[str, dict[str, str]]
    given: dict[str, list[str]]
    topics: dict[str, list[str]]
    organisations: list[str]
    persons: list[str]
    words: dict[str, dict[str, dict[str, list[str]]]]


@cache
def material() -> Material:
    """Return the audience's file, read once and only when somebody lives."""
    content = files("shareasm.networks.practice").joinpath("audience.toml").read_bytes()
    return msgspec.toml.decode(content, type=Material)


@cache
def lines_of(language: str, pool: str) -> tuple[Line, ...]:
    """Return what may be said. A line may begin with the groups that it suits: `mc|…` for miners and communities."""
    topics = material().words.get(language, {}).get(pool, {})
    return tuple(
        _line(f"{language}.{pool}.{topic}.{number}", topic, text)
        for topic, texts in topics.items()
        for number, text in enumerate(texts)
    )


def _line(key: str, topic: str, text: str) -> Line:
    groups, bar, rest = text.partition("|")
    return Line(key, topic, frozenset(GROUP_OF[g] for g in groups) if bar else frozenset(), rest if bar else text)


def invite(seed: str, audience: int) -> list[Member]:
    """Return the accounts of an audience, all invented. The same seed and number give the same accounts."""
    dice = dice_of(seed, "people")
    taken: set[str] = set()
    named = [_organisation(dice, taken, row) for row in material().organisations]
    rows = [row for row in material().persons for _ in range(int(row.split("|")[2]))]
    dice.shuffle(rows)
    missing = max(0, audience - len(named))
    named += [_individual(dice, taken, rows[number % len(rows)]) for number in range(missing)]
    guests = dice.sample(named, audience) if len(named) > audience else named
    bots = [
        Member(handle=_handle(name, taken), name=name, languages=("en",), followers=40, bot=True, loud=1.0)
        for name in material().bots
    ]
    flood = material().flood
    return [*guests, *bots, Member(handle=_handle(flood, taken), name=flood, followers=23, role="flood")]


def _organisation(dice: Random, taken: set[str], row: str) -> Member:
    group, country, followers, role, name = row.split("|")
    return Member(
        handle=_handle(name, taken),
        name=name,
        group=group,
        country=country,
        languages=tuple(material().languages[country]),
        role=role,
        followers=int(followers),
        following=dice.randrange(80, 900),
        declared=dice.random() < 0.93,
        loud=round(min(9.0, dice.paretovariate(1.5)), 2),
    )


def _individual(dice: Random, taken: set[str], row: str) -> Member:
    group, country, _, usual, roles = row.split("|")
    given = dice.choice(material().given[country])
    name = f"{given} {dice.choice('ABCDEFGHJKLMNOPRSTWYZ')}."
    languages = tuple(material().languages[country])
    followers = round(min(60_000.0, max(20.0, dice.lognormvariate(math.log(float(usual)), 1.1))))
    return Member(
        handle=_handle(f"{name} {dice.choice(material().places[country])}", taken),
        name=name,
        group=group,
        country=country,
        languages=languages[:1] if group in ("miner", "community") and dice.random() < 0.5 else languages,
        role=dice.choice(roles.split(",")).strip(),
        followers=followers if dice.random() > 0.04 else None,
        following=dice.randrange(30, 600),
        may_be_named=dice.random() > 0.03,
        declared=dice.random() < 0.85,
        loud=round(min(12.0, dice.paretovariate(1.25)), 2),
    )


def _handle(name: str, taken: set[str]) -> str:
    """Return a handle that nobody has yet and that says where it lives."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold()
    stem = "-".join(regex.findall(r"[a-z0-9]+", plain))
    handle = next(h for n in range(1, 10_000) if (h := f"{stem}{n if n > 1 else ''}.practice") not in taken)
    taken.add(handle)
    return handle


def dice_of(*seed: object) -> Random:
    """Return the dice of one moment: the same words give the same throws on every machine."""
    return Random(":".join(map(str, seed)))  # noqa: S311 — a rehearsal must be repeatable, not secret
