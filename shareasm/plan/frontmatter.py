"""Front matter: a post file as its author typed it, every value a text with its line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from shareasm.errors import PlanError

MAX_HEADER = 32_768
MAX_DEPTH = 5

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
_HEADING = re.compile(r"##[ \t]+(?P<language>[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*)(?:[ \t]*/[ \t]*(?P<network>[\w-]+))?")


@dataclass(frozen=True, slots=True)
class Value:
    """One value as typed: a text, a list or a table, and the line where its key or itself begins."""

    content: str | list[Value] | dict[str, Value]
    line: int


@dataclass(frozen=True, slots=True)
class Wording:
    """The text under one heading: all its parts, for one language, and for one network where it names one."""

    language: str
    network: str
    parts: tuple[str, ...]
    lines: tuple[int, ...]


Lines = Sequence[tuple[int, str]]


def split_file(content: bytes, where: str) -> tuple[dict[str, Value], Lines]:
    """Return the front matter and the numbered lines of the body. Raise PlanError with the line of the mistake."""
    text = _decoded(content, where)
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        raise PlanError("A post begins with its front matter.", "Write --- as the first line.", where=f"{where}:1")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise PlanError("The front matter has no end.", "Write --- under its last line.", where=f"{where}:1")
    header = "\n".join(lines[1:end])
    if len(header) > MAX_HEADER:
        raise PlanError(f"The front matter is over {MAX_HEADER:,} signs.", "Shorten it.", where=f"{where}:1")
    return read_header(header, where), list(enumerate(lines[end + 1 :], end + 2))


def read_header(header: str, where: str) -> dict[str, Value]:
    """Return the keys of a front matter that begins in line 2, with no value but texts, lists and tables of texts.

    Read from the parser's events: nothing is ever constructed, so `no` stays “no” and 12:30 stays “12:30”.
    """
    try:
        events = yaml.parse(header, Loader=yaml.SafeLoader)
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                content = _value(event, events, where, depth=0).content
                if isinstance(content, dict):
                    return _ended(content, events, where)
                raise PlanError("The front matter is no list of `key: value`.", "See docs.", where=f"{where}:2")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 2 if mark else header.count("\n", 0, getattr(error, "position", 0)) + 2
        words = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise PlanError(f"This is not YAML: {words}.", "Put the value in quotes.", where=f"{where}:{line}") from error
    return {}


def read_body(lines: Lines, languages: Sequence[str], where: str) -> list[Wording]:
    """Return the wordings of a body. Raise PlanError with the line of the first mistake."""
    by_fold = {language.casefold(): language for language in languages}
    found: list[Wording] = []
    language, network, begin = (languages[0] if len(languages) == 1 else ""), "", 0
    section: list[tuple[int, str]] = []
    for number, line in _without_comments(lines, where):
        if not line.startswith(("## ", "##\t")):
            section.append((number, line))
            continue
        found += _wording(section, language, network, begin, where)
        heading = _HEADING.fullmatch(line.rstrip())
        if not heading or heading["language"].casefold() not in by_fold:
            known = ", ".join(f"## {name}" for name in languages)
            raise PlanError(
                f"“{line.strip()}” names no language of this post.", f"It has {known}.", where=f"{where}:{number}"
            )
        language, network = by_fold[heading["language"].casefold()], (heading["network"] or "").casefold()
        section, begin = [], number
        if any((wording.language, wording.network) == (language, network) for wording in found):
            raise PlanError(f"“{line.strip()}” stands here twice.", "Keep one.", where=f"{where}:{number}")
    return found + _wording(section, language, network, begin, where)


def _decoded(content: bytes, where: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PlanError("This is not UTF-8.", "Save the file as UTF-8.", where=f"{where}:{line}") from error
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    if bad := _CONTROL.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise PlanError(f"Here is a control character, U+{ord(bad[0]):04X}.", "Delete it.", where=f"{where}:{line}")
    return text


def _value(event: yaml.Event, events: Iterator[yaml.Event], where: str, *, depth: int) -> Value:
    line = event.start_mark.line + 2
    _refuse_tricks(event, where, line, depth)
    if isinstance(event, yaml.ScalarEvent):
        return Value(event.value.strip(), line)
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Value] = []
        while not isinstance(inner := next(events), yaml.SequenceEndEvent):
            items.append(_value(inner, events, where, depth=depth + 1))
        return Value(items, line)
    table: dict[str, Value] = {}
    while not isinstance(inner := next(events), yaml.MappingEndEvent):
        key = _value(inner, events, where, depth=depth + 1)
        if not isinstance(key.content, str):
            raise PlanError("A key must be a word.", "Write `key: value`.", where=f"{where}:{key.line}")
        if key.content in table:
            raise PlanError(f"“{key.content}” stands here twice.", "Keep one.", where=f"{where}:{key.line}")
        table[key.content] = Value(_value(next(events), events, where, depth=depth + 1).content, key.line)
    return Value(table, line)


def _refuse_tricks(event: yaml.Event, where: str, line: int, depth: int) -> None:
    # 306 bytes of aliases unfold to gigabytes, a tag asks for an object: neither belongs in a post.
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise PlanError(
            "Anchors and aliases (& and *) are not read.", "Put the value in quotes.", where=f"{where}:{line}"
        )
    if getattr(event, "tag", None):
        raise PlanError("Tags (!) are not read.", "Put the value in quotes.", where=f"{where}:{line}")
    if depth > MAX_DEPTH:
        raise PlanError("This is nested too deeply.", "Take some brackets away.", where=f"{where}:{line}")


def _ended(header: dict[str, Value], events: Iterator[yaml.Event], where: str) -> dict[str, Value]:
    for event in events:
        if isinstance(event, yaml.NodeEvent):
            line = event.start_mark.line + 2
            raise PlanError("A second document begins here.", "Keep one.", where=f"{where}:{line}")
    return header


def _wording(section: Lines, language: str, network: str, begin: int, where: str) -> list[Wording]:
    """Return one wording, or none for the blank lines before the first heading (`begin` is its line, else 0)."""
    if not begin and not any(line.strip() for _, line in section):
        return []
    if not language:
        line = next(number for number, line in section if line.strip())
        raise PlanError("This text has no language.", "Write `## en` above it.", where=f"{where}:{line}")
    parts: list[list[tuple[int, str]]] = [[]]
    for number, line in section:
        if line.rstrip() == "---":
            parts.append([])
        else:
            parts[-1].append((number, line))
    texts = ["\n".join(line for _, line in part).strip() for part in parts]
    starts = [next((number for number, line in part if line.strip()), begin) for part in parts]
    if "" in texts:
        line = starts[texts.index("")] or section[0][0]
        raise PlanError("Here a text is empty.", "Write it, or take its heading or --- away.", where=f"{where}:{line}")
    return [Wording(language, network, tuple(texts), tuple(starts))]


def _without_comments(lines: Lines, where: str) -> Iterator[tuple[int, str]]:
    """Yield the lines without `<!-- … -->`; a line that held nothing else is gone altogether."""
    opened = 0
    for number, line in lines:
        shown, rest, touched = "", line, bool(opened)
        while rest:
            words, sign, rest = rest.partition("-->" if opened else "<!--")
            shown += "" if opened else words
            touched = touched or bool(sign)
            opened = 0 if opened and sign else number if sign else opened
        if not touched:
            yield number, line
        elif shown.strip():
            yield number, shown.rstrip()
    if opened:
        raise PlanError("This comment has no end.", "Write --> behind it.", where=f"{where}:{opened}")
