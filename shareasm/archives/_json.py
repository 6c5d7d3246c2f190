"""JSON in archives: the text of each record, and what can be kept of a broken one.

No format itself: what the readers of JSON lines share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain
from typing import Any, BinaryIO, TypeGuard, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Raw, Struct

LONGEST_RECORD = 64 * 1024**2
"""A page of X holds at most 500 posts, about 5 MB. What is longer than this is no record."""

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one record, the line on which it begins, and how many bytes of the content it used up.

    The last one may be empty: the blank end of the content.
    """

    line: int
    body: bytes
    size: int
    too_long: bool = False


def texts(content: BinaryIO) -> Iterator[Text]:
    """Yield the text of each record: a line, or an object of a file that is one array or is printed over many lines."""
    blank_lines = blank_bytes = 0
    for first in iter(partial(content.readline, _PIECE), b""):
        begin = first.removeprefix(_BOM).strip()
        if begin:
            break
        blank_lines += first.endswith(b"\n")
        blank_bytes += len(first)
    else:
        if blank_bytes:
            yield Text(1, b"", blank_bytes)
        return
    if _OVER_MANY_LINES.match(begin):
        pieces = chain((first,), iter(partial(content.read, _PIECE), b""))
        yield from _Objects(blank_lines + 1, blank_bytes).of(pieces)
    else:
        yield from _lines(content, first, blank_lines + 1, blank_bytes)


def _lines(content: BinaryIO, first: bytes, number: int, size: int) -> Iterator[Text]:
    line = first if first.endswith(b"\n") else first + content.readline(LONGEST_RECORD)
    while line:
        size += len(line)
        too_long = len(line) >= LONGEST_RECORD and not line.endswith(b"\n")
        if too_long:
            size += _skipped_to_line_end(content)
        body = line.removeprefix(_BOM).strip()
        if body:
            yield Text(number, body, size, too_long)
            size = 0
        line = content.readline(LONGEST_RECORD)
        number += 1
    if size:
        yield Text(number, b"", size)


def _skipped_to_line_end(content: BinaryIO) -> int:
    size = 0
    while rest := content.readline(_PIECE):
        size += len(rest)
        if rest.endswith(b"\n"):
            break
    return size


_PIECE = 64 * 1024
_OVER_MANY_LINES = re.compile(rb'\[\s*([\[{\]]|\Z)|\{\s*("\w+"\s*:\s*[\[{\s]*)?\Z')
_OUTSIDE_STRINGS = re.compile(rb'["\[\]{}]')
_INSIDE_STRINGS = re.compile(rb'["\\]')


_ARRAY = ord("[")
_BETWEEN = b" \t\r\n,"
_SEPARATORS = (b"", b"[", b"]")


class _Objects:
    """Cuts a content at its brackets: into the objects that follow each other, or the elements of arrays."""

    def __init__(self, line: int, size: int) -> None:
        self._line = line
        self._size = size
        self._body = bytearray()
        self._begin = 0  # the line on which a record begins that is too long to be held
        self._in_string = False
        self._escaped = False

    def of(self, pieces: Iterable[bytes]) -> Iterator[Text]:
        """Yield each object, and whatever stands where no object should."""
        depth = base = 0  # base is 1 inside an array
        for piece in pieces:
            used = 0
            for at in self._brackets(piece):
                cut = None
                if piece[at] in b"[{":
                    begins_array = depth == 0 and piece[at] == _ARRAY
                    if depth == base:
                        cut = at + begins_array
                    base = 1 if begins_array else base
                    depth += 1
                elif depth:
                    depth -= 1
                    cut = at + 1 if depth <= base else None
                    base = min(base, depth)
                if cut is not None:
                    self._gather(piece[used:cut])
                    used = cut
                    yield from self._taken()
            self._gather(piece[used:])
        if depth and not self._body.strip(_BETWEEN):
            self._gather(b"[")  # an array that was never closed is cut
            self._size -= 1
            yield from self._taken(separators=())
        yield from self._taken()
        if self._size:
            yield Text(self._line, b"", self._size)

    def _brackets(self, piece: bytes) -> Iterator[int]:
        """Yield the place of each bracket that is not inside a string, across pieces."""
        at = int(self._escaped)
        self._escaped = False
        while found := (_INSIDE_STRINGS if self._in_string else _OUTSIDE_STRINGS).search(piece, at):
            at = found.end()
            if found[0] == b'"':
                self._in_string = not self._in_string
            elif found[0] == b"\\":
                self._escaped = at == len(piece)
                at += 1
            else:
                yield at - 1

    def _gather(self, piece: bytes) -> None:
        self._size += len(piece)
        self._body += piece
        if len(self._body) > LONGEST_RECORD:
            self._begin = self._begin or self._begin_of(self._body)
            self._line += self._body.count(b"\n")
            self._body.clear()

    def _taken(self, separators: tuple[bytes, ...] = _SEPARATORS) -> Iterator[Text]:
        text = bytes(self._body)
        body = text.removeprefix(_BOM).strip(_BETWEEN)
        if self._begin or body not in separators:
            yield Text(self._begin or self._begin_of(text), body, self._size, too_long=bool(self._begin))
            self._size = 0
        self._line += text.count(b"\n")
        self._begin = 0
        self._body.clear()

    def _begin_of(self, text: bytes | bytearray) -> int:
        return self._line + text[: len(text) - len(text.lstrip(_BETWEEN))].count(b"\n")


class Unreadable(Exception):
    """Why one record cannot be kept; becomes a Fault."""


_Shape = TypeVar("_Shape")
_StructShape = TypeVar("_StructShape", bound=Struct)


@cache
def _decoder(shape: type[_Shape]) -> msgspec.json.Decoder[_Shape]:
    return msgspec.json.Decoder(shape)


def decoded(body: bytes | Raw, shape: type[_Shape]) -> _Shape:
    """Return the record, with null for each field that is not what it should be.

    Raise Unreadable, and nothing else, when there is no record to keep.
    """
    try:
        return _decoder(shape).decode(body)
    except msgspec.ValidationError as strange:
        if not _is_struct(shape):
            raise Unreadable("This is JSON, but not an object with what is looked for.") from strange
        return cast(_Shape, _salvaged(body, shape))
    except RecursionError as deep:
        raise Unreadable("This record is nested deeper than any record of a network.") from deep
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        mended = _mended(bytes(body))
        if mended == bytes(body):
            raise Unreadable("This is not whole JSON: it is cut or broken.") from broken
        return decoded(mended, shape)


def or_none(body: bytes | Raw, shape: type[_Shape]) -> _Shape | None:
    """Return the record as `decoded` does, or None when it cannot be kept."""
    try:
        return decoded(body, shape)
    except Unreadable:
        return None


def _salvaged(body: bytes | Raw, shape: type[_StructShape]) -> _StructShape:
    fields = decoded(body, dict[str, Raw])
    wanted = {item.name: item for item in _fields_of(shape) if item.encode_name in fields}
    return shape(**{name: _salvaged_value(fields[item.encode_name], item.type) for name, item in wanted.items()})


@cache
def _fields_of(shape: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(shape)  # it evaluates every annotation anew: once per shape is enough


def _salvaged_value(raw: Raw, shape: Any) -> Any:
    """Return the value, without the parts of it that are not what they should be."""
    if shape is Raw:
        return raw
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError:
        for option in get_args(shape):
            if _is_struct(option):
                return or_none(raw, option)
            if get_origin(option) is list:
                values = (_salvaged_value(part, get_args(option)[0]) for part in list_of(raw))
                return [value for value in values if value is not None]
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise Unreadable("This is not whole JSON: it is cut or broken.") from broken


def _is_struct(shape: Any) -> TypeGuard[type[Struct]]:
    return isinstance(shape, type) and issubclass(shape, Struct)


_HALVES = re.compile(
    rb"(?P<whole>\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)


def _mended(body: bytes) -> bytes:
    """Return the text with a replacement character for bytes that are not UTF-8 and for halves of characters.

    A text that was cut in the middle of an emoji is such a half; it must not cost the page of 100 posts it stands on.
    """
    text = body.decode("utf-8", "replace").encode()
    return _HALVES.sub(lambda found: found["whole"] or rb"\ufffd", text)


def is_given(raw: Raw) -> bool:
    """Return True when the field was there and not null."""
    return bool(raw) and memoryview(raw) != b"null"


def list_of(raw: Raw) -> list[Raw]:
    """Return the elements of the field; none when it is no list."""
    return (or_none(raw, list[Raw]) or []) if is_given(raw) else []
