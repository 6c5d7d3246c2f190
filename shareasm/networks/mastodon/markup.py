"""Markup: a post's HTML as the words that its author wrote. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape

HTML_LENGTH = 200_000
"""No server takes longer posts; a stranger's endless one is cut."""

# The standard library's parser takes minutes over some 100 kB; these never look at the same sign twice.
_TAG = re.compile(r"""<(/?)([a-z][a-z0-9]*+)((?:[^<>"']++|"[^"]*+"|'[^']*+')*+)>|<[!?][^<>]*+>""", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""(?<![\w-])([\w-]++)\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]++)""")

_BLOCKS = frozenset({"p", "div", "blockquote", "ul", "ol", "pre", "h1", "h2", "h3", "h4", "h5", "h6"})
_SILENT = frozenset({"script", "style"})
_EMPTY = frozenset({"br", "img", "hr", "wbr", "input"})


@dataclass(frozen=True, slots=True)
class Words:
    """What a post says, and the addresses behind its links, without those of hashtags and mentions."""

    text: str
    links: tuple[str, ...] = ()


def words_of(html: str) -> Words:
    """Return the text of a post: paragraphs two lines apart, links whole, entities as signs.

    Five kinds of server, five kinds of HTML: Mastodon hides parts of a link's text in invisible spans, others shorten
    it with an ellipsis, and since Mastodon 4.4 a quote brings a paragraph of its own (`quote-inline`) for old readers.
    """
    reader = _Reader()
    reader.read(html[:HTML_LENGTH])
    text = "\n".join(line.strip(" \t") for line in "".join(reader.said).split("\n"))
    return Words(re.sub(r"\n{3,}", "\n\n", text).strip("\n"), tuple(dict.fromkeys(reader.links)))


@dataclass(slots=True)
class _Link:
    href: str
    begin: int


@dataclass(slots=True)
class _Silence:
    """Inside an element whose words nobody wrote."""

    tag: str
    depth: int = field(default=1)


class _Reader:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.links: list[str] = []
        self._link: _Link | None = None
        self._silence: _Silence | None = None

    def read(self, html: str) -> None:
        place = 0
        for token in _TAG.finditer(html):
            self._say(html[place : token.start()])
            place = token.end()
            closes, tag, rest = token.group(1, 2, 3)
            if tag and closes:
                self._end(tag.lower())
            elif tag:
                self._begin(tag.lower(), rest)
        self._say(html[place:])

    def _begin(self, tag: str, rest: str) -> None:
        about = {name.lower(): unescape(value.strip("\"'")) for name, value in _ATTRIBUTE.findall(rest)}
        if self._silence is not None:
            self._silence.depth += tag == self._silence.tag
        elif tag in _SILENT or ("quote-inline" in about.get("class", "").split() and tag not in _EMPTY):
            self._silence = _Silence(tag)
        elif tag == "br":
            self.said.append("\n")
        elif tag == "li":
            self.said.append("\n• ")
        elif tag in _BLOCKS:
            self.said.append("\n\n")
        elif tag == "img":
            self.said.append(about.get("alt", ""))  # a custom emoji
        elif tag == "a":
            self._begin_link(about)

    def _end(self, tag: str) -> None:
        if self._silence is not None:
            self._silence.depth -= tag == self._silence.tag
            self._silence = self._silence if self._silence.depth else None
        elif tag in _BLOCKS:
            self.said.append("\n\n")
        elif tag == "a" and self._link is not None:
            self._end_link(self._link)

    def _say(self, words: str) -> None:
        if self._silence is None and words:
            self.said.append(unescape(words))

    def _begin_link(self, about: dict[str, str]) -> None:
        names = {*about.get("class", "").split(), *about.get("rel", "").split()}
        href = about.get("href", "")
        if not names & {"mention", "hashtag", "tag"} and href.startswith(("https://", "http://")):
            self.links.append(href)
            self._link = _Link(href, len(self.said))

    def _end_link(self, link: _Link) -> None:
        shown = "".join(self.said[link.begin :])
        if shown.endswith(("…", "...")) and shown.rstrip("….") in link.href:
            self.said[link.begin :] = [link.href]
        self._link = None
