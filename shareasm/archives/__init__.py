"""Archives: one file per format of other people's collections.

A format is one file in this folder. It defines

    NAME                                  the name that `import --format` takes
    recognises(head: bytes) -> bool       told from the first bytes of the content, never from the file's name
    read(content: BinaryIO) -> Iterator[Batch]

and yields its records as values of model.py, or as Faults with their line numbers: a broken record costs nothing else.
Readers touch no network and no store, execute nothing that stands in a file, and hold one batch in memory, not all.
What they are given is the content as `open_content` opens it: unfolded from .gz, .zst or .zip, and never a bomb. A file
whose name begins with `_` is no format: it holds what several readers share.
"""

from __future__ import annotations

import gzip
import io
import lzma
import pkgutil
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import zstandard

from shareasm.errors import ArchiveError
from shareasm.model import AccountChanged, Counted, Removed, Seen

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

HEAD_BYTES = 256 * 1024
"""How much of the content a format may look at to tell itself."""
MOST_BYTES = 64 * 1024**3
"""The most that one compressed file may unfold to."""
MOST_RATIO = 400
"""The most that a compressed file may grow, above the first `FREE_BYTES`.

Collections shrink 5 to 50 times, invented records of a rehearsal 220 times, bombs 1,000 times and more.
"""
FREE_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Fault:
    """One record that could not be read: its line and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records of an archive, in the order of the file.

    `lines` holds the line number of each of `seen`. `context` are posts shown beside them (originals of reposts and
    quotes, parents): never mentions by themselves. `counted` are the network's own totals for a stretch of time.
    `bytes_read` are the bytes of the content that this batch used up; over all batches they add up to the content.
    """

    seen: Sequence[Seen] = ()
    lines: Sequence[int] = ()
    context: Sequence[Seen] = ()
    removed: Sequence[Removed] = ()
    accounts: Sequence[AccountChanged] = ()
    counted: Sequence[Counted] = ()
    faults: Sequence[Fault] = ()
    bytes_read: int = 0


class Archive(Protocol):
    """What the file of a format defines."""

    @property
    def NAME(self) -> str:
        """The name that `import --format` takes."""
        ...

    def recognises(self, head: bytes, /) -> bool:
        """Return True when these first bytes (decompressed, up to 256 KiB) are of this format."""
        ...

    def read(self, content: BinaryIO, /) -> Iterator[Batch]:
        """Yield every record. The content is unfolded and can be read forwards only.

        Damage in a compressed file is raised by the content itself as ArchiveError, after all that came before it.
        """
        ...


def names() -> tuple[str, ...]:
    """Return the names of all formats."""
    return tuple(sorted(archive.NAME for archive in _archives()))


def archive(name: str) -> Archive:
    """Return the format of this name. Raise ArchiveError when there is none."""
    for candidate in _archives():
        if name == candidate.NAME:
            return candidate
    raise ArchiveError(f"There is no format “{name}”.", f"Known are {', '.join(names())}.")


def recognise(head: bytes, file: Path) -> Archive:
    """Return the format of this content. Raise ArchiveError when none knows it."""
    for candidate in _archives():
        if candidate.recognises(head):
            return candidate
    raise ArchiveError(
        "No format that the desk reads looks like this.", f"It reads {', '.join(names())}.", where=str(file)
    )


def _archives() -> list[Archive]:
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return [cast(Archive, import_module(f"{__name__}.{name}")) for name in modules if not name.startswith("_")]


def open_content(path: Path, *, most_bytes: int = MOST_BYTES, most_ratio: int = MOST_RATIO) -> BinaryIO:
    """Open the content of a file, unfolded if it is .gz, .zst or a .zip of one file, told by its first bytes.

    Memory stays flat whatever the file holds. Raise ArchiveError for what is no readable file; reading raises it
    where a compressed file is damaged, cut, or unfolds to more than it may.
    """
    with ExitStack() as stack:
        file = stack.enter_context(_opened(path))
        pieces = _unfolding(file, path, stack)
        if pieces is not None:
            size = path.stat().st_size
            allowed = min(most_bytes, max(FREE_BYTES, most_ratio * size))
            unfolded = _Unfolded(pieces, path, allowed, stack.pop_all())
            return io.BufferedReader(unfolded, buffer_size=_PIECE)
        stack.pop_all()
        return file


def head_of(path: Path) -> bytes:
    """Return the first bytes of the content, for `recognise`. Raise ArchiveError as `open_content` does."""
    with open_content(path) as content:
        return content.read(HEAD_BYTES)


_PIECE = 64 * 1024
_ZSTD_PIECE = 1024  # four bytes of Zstandard can unfold to 128 KiB: small steps keep a bomb's memory small
_ZSTD_WINDOW = 128 * 1024**2  # what the format asks every reader to support; above it a frame could ask for 2 GiB
_DAMAGE = (
    EOFError,
    OSError,
    UnicodeDecodeError,  # a name in a .zip
    NotImplementedError,  # zipfile, for a way of compression that it does not know
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zstandard.ZstdError,
)


class _Unfolded(io.RawIOBase):
    """The pieces of a compressed file as one stream that refuses to grow without end."""

    def __init__(self, pieces: Iterator[bytes], path: Path, allowed: int, opened: ExitStack) -> None:
        self._pieces = pieces
        self._path = path
        self._allowed = allowed
        self._opened = opened
        self._left = memoryview(b"")
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not self._left:
            self._left = memoryview(self._next_piece())
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._left))
        into[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def close(self) -> None:
        if not self.closed:
            self._opened.close()
        super().close()

    def _next_piece(self) -> bytes:
        try:
            piece = next(self._pieces, b"")
        except _DAMAGE as damage:
            raise ArchiveError(
                f"This compressed file is damaged or cut short ({damage}).",
                "What came before the damage was read; fetch the file again for the rest.",
                where=str(self._path),
            ) from damage
        self._given += len(piece)
        if self._given > self._allowed:
            raise ArchiveError(
                f"This compressed file unfolds to more than {self._allowed // 1024**2:,} MiB: no collection does.",
                "If you trust it, unpack it yourself and import what comes out.",
                where=str(self._path),
            )
        return piece


def _opened(path: Path) -> BinaryIO:
    if path.is_dir():
        raise ArchiveError("This is a folder, not a file.", "Name the files in it.", where=str(path))
    if path.exists() and not path.is_file():
        raise ArchiveError("This is not an ordinary file.", "Save the collection to a file first.", where=str(path))
    try:
        return path.open("rb", buffering=_PIECE)
    except FileNotFoundError as absent:
        raise ArchiveError("There is no such file.", "Check the name and the folder.", where=str(path)) from absent
    except (OSError, ValueError) as refused:
        raise ArchiveError(
            f"This file cannot be opened ({refused}).", "Check who may read it.", where=str(path)
        ) from refused


def _unfolding(file: BinaryIO, path: Path, opened: ExitStack) -> Iterator[bytes] | None:
    """Return what the file unfolds to, or None when it is not compressed."""
    magic = file.read(4)
    file.seek(0)
    if magic[:3] == b"\x1f\x8b\x08":
        return _pieces_of(opened.enter_context(gzip.GzipFile(fileobj=file)))
    if magic == b"\x28\xb5\x2f\xfd" or (magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5):
        return _zstd_pieces(file)
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        return _pieces_of(opened.enter_context(_only_member(file, path)))
    return None


def _pieces_of(stream: gzip.GzipFile | BinaryIO) -> Iterator[bytes]:
    return iter(partial(stream.read, _PIECE), b"")


def _zstd_pieces(file: BinaryIO) -> Iterator[bytes]:
    # Not `stream_reader`: it ends a cut file without a word.
    unfolder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    frame = unfolder.decompressobj()
    begun = False
    for piece in _pieces_of(file):
        while piece:
            step, piece = piece[:_ZSTD_PIECE], piece[_ZSTD_PIECE:]
            yield from filter(None, (frame.decompress(step),))
            begun = True
            if frame.eof:
                piece = frame.unused_data + piece
                frame, begun = unfolder.decompressobj(), False
    if begun:
        raise EOFError("its last frame is not whole")


def _only_member(file: BinaryIO, path: Path) -> BinaryIO:
    try:
        folder = zipfile.ZipFile(file)
        members = [member for member in folder.infolist() if not _is_clutter(member)]
        if len(members) != 1:
            raise ArchiveError(
                f"This .zip holds {len(members)} files; the desk reads a .zip of one.",
                "Unpack it and import the files that hold posts.",
                where=str(path),
            )
        if members[0].flag_bits & 1:
            raise ArchiveError("This .zip is locked with a password.", "Unpack it first.", where=str(path))
        return cast(BinaryIO, folder.open(members[0]))
    except _DAMAGE as damage:
        raise ArchiveError(
            f"This .zip is damaged or cut short ({damage}).", "Fetch it again.", where=str(path)
        ) from damage


def _is_clutter(member: zipfile.ZipInfo) -> bool:
    """Folders, and what macOS puts beside each file."""
    return member.is_dir() or member.filename.startswith("__MACOSX/")
