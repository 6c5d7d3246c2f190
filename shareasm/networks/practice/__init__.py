"""Practice"""
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

    `mentions` are posts whose latest text carries a hashtag, and reposts of these, deleted ones included. The four
    sums are over spoken mentions that still stand. `ours` are posts of the desk's own accounts, tagged or not.
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


def open_account(setting: Setting) -> PracticeAccount:
    """Return our login on the practice network, without touching its file."""
    return PracticeAccount(setting)


def open_source(setting: Setting) -> PracticeSource:
    """Return the practice network's public feed, without touching its file."""
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
    """Give a campaign its audience before anyone listens. Repeating it changes nothing but a later end."""
    feed = Feed(folder)
    with feed.locked() as file:
        feed.opening(file, hashtag, utc(start), utc(end), Taste(str(seed), audience, mood))


def people(folder: Path, *, seed: object = SEED, audience: int = AUDIENCE) -> list[Person]:
    """Return the accounts that declared a group, as rows for a people file. Read-only.

    They are those of the feed in this folder; without one, those that an audience of this seed will have.
    """
    path = folder / FEED
    held = [e["person"] for e in _lines(path) if e["do"] == "account"] if path.exists() else []
    members = [msgspec.convert(p, Member) for p in held] or invite(str(seed), audience)
    return [
        Person(m.handle, m.group, m.country, m.languages[0] if m.languages else "", m.role)
        for m in members
        if m.declared
    ]
