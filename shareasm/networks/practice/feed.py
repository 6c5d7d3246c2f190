"""The feed: one file of JSON lines that only grows, under a lock, shared by all processes of the machine."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from shareasm.errors import Unreachable
from shareasm.networks.practice import AUDIENCE, FEED
from shareasm.networks.practice.audience import Audience
from shareasm.networks.practice.cast import MOODS, Taste, invite
from shareasm.networks.practice.state import BEAT, Event, Opening, State
from shareasm.text import fold_tag

LOCK = "practice-feed.lock"
LONGEST = timedelta(days=31)
"""An audience goes home after this, however long the campaign: a rehearsal is of days."""


class Feed:
    """The file under its lock. `state` is always that of the last whole step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = threading.RLock()
        self._encode = msgspec.json.Encoder().encode
        self._forget()

    def _forget(self) -> None:
        self.state = State()
        self._tail = Tail()
        self._audiences: dict[int, Audience] = {}

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the feed alone, read up to its end, a torn last step cut off."""
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        with self._thread, _exclusive(self._folder / LOCK):
            file = os.open(self._folder / FEED, flags, 0o600)
            try:
                self._catch_up(file)
                yield file
            finally:
                os.close(file)

    def opening(self, file: int, hashtag: str, start: datetime, until: datetime, taste: Taste) -> int:
        """Return the number of the campaign's audience, inviting it when it is not there yet."""
        for number, known in self.state.openings.items():
            if fold_tag(known.hashtag) == fold_tag(hashtag) and known.start < until and start < known.until:
                later = min(until, known.start + LONGEST)
                if later > known.until:
                    longer = msgspec.structs.replace(known, until=later)
                    self.write(file, [[Event(do="opened", at=known.until, crowd=number, opening=longer)]])
                return number
        opening = Opening(
            number=len(self.state.openings) + 1,
            seed=taste.seed,
            hashtag=hashtag.lstrip("#"),
            start=start,
            until=min(until, start + LONGEST),
            pace=MOODS[taste.mood] * taste.audience / AUDIENCE,
        )
        guests = [m for m in invite(taste.seed, taste.audience) if m.handle not in self.state.members]
        first = Event(do="opened", at=start, crowd=opening.number, opening=opening)
        self.write(file, [[first, *(Event(do="account", at=start, person=m) for m in guests)]])
        return opening.number

    def live(self, file: int, now: datetime) -> None:
        """Let every audience live up to this moment, in whole beats."""
        for number, opening in tuple(self.state.openings.items()):
            if self.state.closed.get(number) != opening.until and self.state.lived[number] < now:
                self._live(file, opening, min(now, opening.until))
                if now >= opening.until:
                    self.write(file, [[Event(do="closed", at=opening.until, crowd=number)]])

    def lived_until(self, number: int, now: datetime) -> datetime:
        """Return the moment up to which everything is in the feed."""
        opening = self.state.openings[number]
        inside = opening.start <= now < opening.until
        return min(now, self.state.lived[number]) if inside else now

    def write(self, file: int, steps: Sequence[Sequence[Event]], *, durable: bool = False) -> None:
        """Append whole steps and take them in; on any failure nothing of them stays."""
        self._append(file, self._numbered(steps, self.state.seq), durable=durable)
        for step in steps:
            for event in step:
                self.state.apply(event)

    def _live(self, file: int, opening: Opening, until: datetime) -> None:
        audience = self._audiences.get(opening.number)
        if audience is None or audience.opening != opening or audience.size != len(self.state.members):
            audience = self._audiences[opening.number] = Audience(self.state, opening)
        first = (self.state.lived[opening.number] - opening.start) // BEAT
        lines: list[bytes] = []
        for beat in range(first, (until - opening.start) // BEAT):
            step = audience.beat(beat)
            # The next beat depends on this one, so it is taken in at once; _append forgets all when writing fails.
            lines += self._numbered([step], self.state.seq)
            for event in step:
                self.state.apply(event)
        self._append(file, lines)
        self.state.lived[opening.number] = max(
            self.state.lived[opening.number], opening.start + (until - opening.start) // BEAT * BEAT
        )

    def _numbered(self, steps: Sequence[Sequence[Event]], seq: int) -> list[bytes]:
        lines: list[bytes] = []
        for step in steps:
            for index, event in enumerate(step):
                seq += 1
                event.seq, event.left = seq, len(step) - 1 - index
                lines.append(self._encode(event) + b"\n")
        return lines

    def _append(self, file: int, lines: Sequence[bytes], *, durable: bool = False) -> None:
        rest = memoryview(b"".join(lines))
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
            if durable:
                os.fsync(file)
        except OSError:
            end = self._tail.end
            self._forget()
            os.ftruncate(file, end)
            raise
        self._tail.end += size

    def _catch_up(self, file: int) -> None:
        if not self._tail.is_same_file(file):
            self._forget()
            self._tail.is_same_file(file)
        for event in self._tail.read(file):
            self.state.apply(event)
        if os.fstat(file).st_size > self._tail.end:
            # Its writer died in the middle of a step: nobody was told of it, and the audience will live it again.
            os.ftruncate(file, self._tail.end)


class Tail:
    """A place in the feed's file. Reads whole steps only: a torn one is as if it had never been written."""

    def __init__(self) -> None:
        self.end = 0
        self.file: tuple[int, int] | None = None
        self._decoder = msgspec.json.Decoder(Event)

    def is_same_file(self, handle: int) -> bool:
        """Tell whether the file is the one read so far, and not a new or a shorter one."""
        now = os.fstat(handle)
        same = self.file in (None, (now.st_dev, now.st_ino)) and now.st_size >= self.end
        self.file = (now.st_dev, now.st_ino)
        return same

    def read(self, handle: int) -> list[Event]:
        """Return the events written since the last time. Raise Unreachable when a line makes no sense."""
        os.lseek(handle, self.end, os.SEEK_SET)
        with os.fdopen(os.dup(handle), "rb") as stream:
            whole: list[Event] = []
            step: list[Event] = []
            place = end = self.end
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                step.append(self._event(line))
                place += len(line)
                if step[-1].left == 0:
                    whole += step
                    step, end = [], place
        self.end = end
        return whole

    def _event(self, line: bytes) -> Event:
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise Unreachable(
                f"{FEED} has a line that makes no sense near byte {self.end} ({error}).",
                "Rehearse in a new folder, or take that line away.",
                network="practice",
            ) from error


@contextmanager
def readable() -> Iterator[None]:
    """Say in our words that the feed could not be read or written."""
    try:
        yield
    except OSError as error:
        raise Unreachable(f"The practice feed could not be read: {error}", network="practice") from error


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold this file alone among all processes of the machine; the system lets go when its holder dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        # LK_LOCK gives up after ten seconds; the audience of a whole day is not longer than that in coming.
        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)
