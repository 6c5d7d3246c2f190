"""Collect: sources and archives into mentions, with no silent gap.

A source yields pages; each page goes through the campaign's rules and into the store in one transaction with the cursor
behind it. What a source could not show is a gap with its reason. Archives come in through the same door.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from shareasm import archives
from shareasm.errors import ArchiveError, LoginNeeded, NetworkError, NoCredits, Refused, StoreError
from shareasm.model import Campaign, Clock, Counted, Page, Query, Seen, Tally
from shareasm.networks import Source
from shareasm.store import Store
from shareasm.store.conversation import Candidate, Intake
from shareasm.text import TagRule, detect_language

log = logging.getLogger("shareasm.collect")

LEASE = timedelta(seconds=30)
LONGEST_PAUSE_SECONDS = 60.0
STOPS = (LoginNeeded, NoCredits, Refused)
"""Asking again would bring the same answer: a person has to act first."""

Handles = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Listener:
    """One campaign listened to at one source."""

    campaign: Campaign
    campaign_id: int
    source: Source
    source_id: int
    store: Store
    clock: Clock
    owner: str
    rule: TagRule
    own_handles: Handles

    def query(self) -> Query:
        """Return what the source is asked for."""
        c = self.campaign
        tags = (*c.hashtags, *c.variants, *(a.tag for a in c.ambiguous), *c.broken)
        return Query(c.folder, tags, c.start, c.end)


@dataclass(slots=True)
class Imported:
    """What became of an archive: interface.md's shape of `import --json`."""

    format: str = ""
    files: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    problems: list[tuple[str, int, str]] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)


def listener(
    store: Store, campaign: Campaign, source: Source, *, clock: Clock, owner: str, own_handles: Handles
) -> Listener:
    """Return a campaign's listener at a source; the source is known to the store from now on."""
    campaign_id = store.campaigns.id_of(campaign.folder)
    words = " OR ".join(f"#{tag}" for tag in campaign.hashtags)
    source_id = store.sources.open(campaign_id, source.network, source.server, words)
    return Listener(campaign, campaign_id, source, source_id, store, clock, owner, TagRule.of(campaign), own_handles)


def sweep(listen: Listener) -> Tally:
    """Read everything that the source has to show up to now, once. Raise NetworkError after noting the gap."""
    total = Tally()
    try:
        for tally in follow(listen, live=False):
            total += tally
    except NetworkError as error:
        note_failure(listen, error)
        raise
    return total


def follow(listen: Listener, *, live: bool) -> Generator[Tally, None, None]:
    """Yield what each page added, after it is kept. Ends when the source does, or when another collector has it."""
    cursor = listen.store.sources.cursor(listen.source_id)
    leased_until: datetime | None = None
    with closing(listen.source.pages(listen.query(), cursor, live=live)) as pages:  # pyright: ignore[reportArgumentType]
        for page in pages:
            now = listen.clock.now()
            if leased_until is None or leased_until - now < LEASE / 2:
                leased_until = now + LEASE
                if not listen.store.sources.lease(listen.source_id, listen.owner, now, leased_until):
                    return
            yield take(listen, page)


def take(listen: Listener, page: Page) -> Tally:
    """Judge a page by the campaign's rules and keep it whole, with its cursor."""
    intake = Intake(
        candidates=[judge(listen.rule, seen) for seen in page.seen],
        context=[judge(listen.rule, seen) for seen in page.context],
        removed=page.removed,
        accounts=page.accounts,
        holes=page.holes,
        cursor=page.cursor,
        complete_until=page.complete_until,
    )
    return listen.store.conversation.put(
        listen.campaign_id, listen.source_id, intake, at=listen.clock.now(), own_handles=listen.own_handles
    )


def judge(rule: TagRule, seen: Seen, *, told: bool = False) -> Candidate:
    """Return the post with the campaign's spelling of its hashtag and with its language. Pure.

    The network's own language stands where it gave one; only then does the desk read the text itself, and only of what
    counts. `told` says that a person imports it as this campaign's conversation.
    """
    spelling = rule.match(seen.text, seen.tags) or "" if seen.public else ""
    given = seen.language.split("-")[0].lower()
    if 2 <= len(given) <= 3 and given.isascii() and given.isalpha():
        return Candidate(seen, spelling, given, "network", told)
    if not spelling and not told:
        return Candidate(seen)
    return Candidate(seen, spelling, detect_language(seen.text)[0], "detected", told)


def note_failure(listen: Listener, error: NetworkError) -> None:
    """Keep that the source could not be read: a gap is open from where it was complete."""
    stopped = isinstance(error, STOPS)
    listen.store.sources.failed(listen.source_id, listen.clock.now(), str(error), stopped=stopped)


def listen_on(listen: Listener, stop: Callable[[], bool], wait: Callable[[float], object]) -> None:
    """Listen until stopped; a source that fails or closes is asked again after 1, 2, 4 … 60 s with jitter.

    It ends for good where a person has to act first (a refused key, no credits): the source says so and is “stopped”.
    """
    pause = 1.0
    while not stop():
        try:
            with closing(follow(listen, live=True)) as pages:
                for _ in pages:
                    pause = 1.0
                    if stop():
                        break
        except NetworkError as error:
            _try(partial(note_failure, listen, error))
            if isinstance(error, STOPS):
                break
        except StoreError as error:  # a full disk, a database that is restarted: it is read on from the last cursor
            log.warning("%s: %s", listen.source.network, error)
        if not stop():
            wait(pause * random.uniform(0.75, 1.25))  # noqa: S311 - jitter, not a secret
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
    _try(partial(listen.store.sources.release, listen.source_id, listen.owner))


def _try(step: Callable[[], object]) -> None:
    """Do what only tells others how things are: where the database cannot be written, the log has to do."""
    try:
        step()
    except StoreError as error:
        log.warning("%s", error)


# ── Archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def import_files(
    store: Store,
    campaign: Campaign,
    files: Sequence[Path],
    *,
    clock: Clock,
    own_handles: Handles,
    format_name: str | None = None,
    progress: Callable[[Path, int, int], object] = lambda _file, _done, _size: None,
) -> Imported:
    """Read archives into a campaign's conversation through the same door as live mentions.

    Whoever imports says that this is the campaign's conversation, so every public post of the file counts; the spelling
    of the hashtag is kept where it has one. Bad records are listed with file and line and cost nothing else.
    Raise ArchiveError when a file cannot be opened or no format knows it.
    """
    campaign_id = store.campaigns.id_of(campaign.folder)
    done = Imported()
    with ExitStack() as stack:
        opened = []
        for file in files:  # a file that nobody can read stops all before any
            archive, content = _open(file, format_name)
            opened.append((file, archive, stack.enter_context(content)))
        done.format = ", ".join(dict.fromkeys(archive.NAME for _, archive, _ in opened))
        for file, archive, content in opened:
            _import_file(store, campaign, campaign_id, file, archive, content, clock, own_handles, done, progress)
    return done


def _open(file: Path, format_name: str | None):
    content = archives.open_content(file)
    head = content.read(256 * 1024)
    content.close()
    archive = archives.archive(format_name) if format_name else archives.recognise(head, file)
    return archive, archives.open_content(file)


def _import_file(
    store: Store, campaign: Campaign, campaign_id: int, file: Path, archive: archives.Archive, content, clock: Clock,
    own_handles: Handles, done: Imported, progress: Callable[[Path, int, int], object],
) -> None:  # fmt: skip
    source_id = store.sources.open(campaign_id, "archive", file.name, archive.NAME, state="as imported")
    rule = TagRule.of(campaign)
    done.files.append(str(file))
    size = file.stat().st_size
    try:
        for batch in archive.read(content):
            candidates = [judge(rule, seen, told=True) for seen in batch.seen]
            intake = Intake(candidates, [judge(rule, seen) for seen in batch.context], batch.removed, batch.accounts)
            faults = [(str(file), fault.line, fault.why) for fault in batch.faults]
            done.problems += faults
            done.counted += batch.counted
            if candidates or batch.removed or batch.accounts:
                done.tally += store.conversation.put(
                    campaign_id, source_id, intake, at=clock.now(), own_handles=own_handles
                )
            done.tally += Tally(read=len(faults), refused=len(faults))
            progress(file, batch.bytes_read, size)
    except ArchiveError as error:
        raise ArchiveError(error.happened, error.what_to_do, where=error.where or str(file)) from error
