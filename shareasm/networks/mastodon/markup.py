"""Markup: a post's HTML as the words that its author wrote. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

HTML_LENGTH = 200_000
"""No server takes longer posts; a stranger's endless one is cut."""

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
    reader.feed(html[:HTML_LENGTH])
    reader.close()
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", "".join(reader.said))
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


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: list[str] = []
        self.links: list[str] = []
        self._link: _Link | None = None
        self._silence: _Silence | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = {name: value or "" for name, value in attrs}
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

    def handle_endtag(self, tag: str) -> None:
        if self._silence is not None:
            self._silence.depth -= tag == self._silence.tag
            self._silence = self._silence if self._silence.depth else None
        elif tag in _BLOCKS:
            self.said.append("\n\n")
        elif tag == "a" and self._link is not None:
            self._end_link(self._link)

    def handle_data(self, data: str) -> None:
        if self._silence is None:
            self.said.append(data)

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
