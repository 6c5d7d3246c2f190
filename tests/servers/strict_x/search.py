"""X's query language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tests.servers.strict_x.things import Post
from tests.servers.strict_x.words import Problem, invalid

if TYPE_CHECKING:
    from tests.servers.strict_x.state import StrictX


class Search:
    """X's query language: words, "phrases", #tag, @name, operators, OR, -, brackets. AND binds tighter than OR."""

    _TOKEN = re.compile(r'\s*(?:(?P<sign>[()])|(?P<minus>-)(?=\S)|(?P<phrase>"[^"]*")|(?P<word>[^\s()"]+))')

    def __init__(self, words: str, x: StrictX) -> None:
        self._words, self._x = words, x
        self._tokens = self._cut()
        self._place = 0
        self._has_keyword = self._stands_alone = False
        self._test = self._either()
        if self._place < len(self._tokens):
            raise self._wrong("unbalanced bracket")
        if not self._stands_alone:
            raise self._wrong("a query needs one operator that stands alone")

    def matches(self, post: Post) -> bool:
        """Return True when the post is found. A search for words finds no repost, since May 2026."""
        if self._has_keyword and post.id_of("retweeted"):
            return False
        return self._test(post)

    def _cut(self) -> list[tuple[str, str]]:
        tokens: list[tuple[str, str]] = []
        place, words = 0, self._words.rstrip()
        while place < len(words):
            match = self._TOKEN.match(words, place)
            if match is None or match.lastgroup is None:
                raise self._wrong(f"no viable alternative at character {place}")
            tokens.append((match.lastgroup, match[match.lastgroup]))
            place = match.end()
        return tokens

    def _wrong(self, why: str) -> Problem:
        return invalid(f"There were errors processing your request: {why}", "query", self._words)

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._place] if self._place < len(self._tokens) else ("end", "")

    def _either(self) -> Callable[[Post], bool]:
        tests = [self._all()]
        while self._peek() == ("word", "OR"):
            self._place += 1
            tests.append(self._all())
        return lambda post: any(test(post) for test in tests)

    def _all(self) -> Callable[[Post], bool]:
        tests = []
        while self._peek()[0] != "end" and self._peek() not in (("word", "OR"), ("sign", ")")):
            tests.append(self._one())
        if not tests:
            raise self._wrong("missing operand")
        return lambda post: all(test(post) for test in tests)

    def _one(self, *, negated: bool = False) -> Callable[[Post], bool]:
        kind, value = self._peek()
        self._place += 1
        if kind == "minus":
            test = self._one(negated=True)
            return lambda post: not test(post)
        if (kind, value) == ("sign", "("):
            if negated:
                raise self._wrong("a group cannot be negated")
            test = self._either()
            if self._peek() != ("sign", ")"):
                raise self._wrong("unbalanced bracket")
            self._place += 1
            return test
        if kind == "phrase":
            return self._keyword(value.strip('"'), negated=negated)
        if kind != "word":
            raise self._wrong(f"unexpected {value}")
        return self._term(value, negated=negated)

    def _term(self, word: str, *, negated: bool) -> Callable[[Post], bool]:
        name, colon, value = word.partition(":")
        if not colon:
            return self._keyword(word, negated=negated)
        tests: dict[str, Callable[[str], Callable[[Post], bool]]] = {
            "from": self._from,
            "lang": lambda lang: lambda post: post.lang == lang,
            "conversation_id": lambda id_: lambda post: post.conversation == id_,
            "is": self._is,
            "has": self._has,
        }
        if name not in tests or not value:
            raise self._wrong(f"Reference to invalid operator '{name}'")
        self._stands_alone |= not negated and name in ("from", "conversation_id")
        return tests[name](value)

    def _keyword(self, words: str, *, negated: bool) -> Callable[[Post], bool]:
        self._has_keyword = True
        self._stands_alone |= not negated
        folded = unicodedata.normalize("NFC", words).casefold()
        if folded[:1] in "#＃" and len(folded) > 1 and re.fullmatch(r"\w+", folded[1:]):
            return lambda post: folded[1:] in {one["tag"].casefold() for one in post.entities.get("hashtags", [])}
        if folded.startswith("@"):
            return lambda post: folded[1:] in {one["username"].casefold() for one in post.entities.get("mentions", [])}
        wanted = re.findall(r"\w+", folded)
        if not wanted:
            raise self._wrong(f"'{words}' has nothing to search for")
        return lambda post: _has_run(re.findall(r"\w+", post.typed.casefold()), wanted)

    def _from(self, name: str) -> Callable[[Post], bool]:
        return lambda post: name.lstrip("@").casefold() in (self._x._author_of(post).username.casefold(), post.author)

    def _is(self, value: str) -> Callable[[Post], bool]:
        kinds = {"retweet": "retweeted", "reply": "replied_to", "quote": "quoted"}
        if value not in kinds:
            raise self._wrong(f"Reference to invalid operator 'is:{value}'")
        return lambda post: bool(post.id_of(kinds[value]))

    def _has(self, value: str) -> Callable[[Post], bool]:
        tests: dict[str, Callable[[Post], bool]] = {
            "hashtags": lambda post: bool(post.entities.get("hashtags")),
            "links": lambda post: bool(post.entities.get("urls")),
            "mentions": lambda post: bool(post.entities.get("mentions")),
            "media": lambda post: bool(post.media),
            "images": lambda post: bool(post.media),
        }
        if value not in tests:
            raise self._wrong(f"Reference to invalid operator 'has:{value}'")
        return tests[value]


def _has_run(words: Sequence[str], wanted: Sequence[str]) -> bool:
    return any(list(words[at : at + len(wanted)]) == list(wanted) for at in range(len(words) - len(wanted) + 1))
