"""Words: the names of networks and languages as people read them, and figures as they are printed."""

from __future__ import annotations

import re
from collections.abc import Iterable

NETWORKS = {"mastodon": "Mastodon", "bluesky": "Bluesky", "x": "X"}
"""The networks in their one order, everywhere: Mastodon, Bluesky, X, then others by name."""

UNSURE = "unsure"

# C0, C1, lone surrogates and the two signs that XML forbids: one of them in a label ends the process that draws it
# (vl-convert aborts). And those that turn the direction of what stands around them.
_UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]")

_LANGUAGES = """
af Afrikaans, am Amharic, an Aragonese, ar Arabic, as Assamese, ay Aymara, az Azerbaijani, be Belarusian, bg Bulgarian,
bm Bambara, bn Bengali, br Breton, bs Bosnian, ca Catalan, cs Czech, cy Welsh, da Danish, de German, dz Dzongkha,
el Greek, en English, eo Esperanto, es Spanish, et Estonian, eu Basque, fa Persian, ff Fula, fi Finnish, fil Filipino,
fo Faroese, fr French, ga Irish, gl Galician, gn Guarani, gu Gujarati, ha Hausa, he Hebrew, hi Hindi, hr Croatian,
ht Haitian Creole, hu Hungarian, hy Armenian, id Indonesian, ig Igbo, in Indonesian, is Icelandic, it Italian,
iw Hebrew, ja Japanese, jv Javanese, ka Georgian, kk Kazakh, km Khmer, kn Kannada, ko Korean, ku Kurdish, ky Kyrgyz,
la Latin, lb Luxembourgish, lg Ganda, ln Lingala, lo Lao, lt Lithuanian, lv Latvian, mg Malagasy, mk Macedonian,
ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt Maltese, my Burmese, nb Norwegian Bokmål, ne Nepali, nl Dutch,
nn Norwegian Nynorsk, no Norwegian, ny Chewa, oc Occitan, om Oromo, or Odia, pa Punjabi, pl Polish, ps Pashto,
pt Portuguese, qu Quechua, rn Rundi, ro Romanian, ru Russian, rw Kinyarwanda, sd Sindhi, se Northern Sami, si Sinhala,
sk Slovak, sl Slovenian, sn Shona, so Somali, sq Albanian, sr Serbian, st Sotho, su Sundanese, sv Swedish, sw Swahili,
ta Tamil, te Telugu, tg Tajik, th Thai, ti Tigrinya, tl Tagalog, tn Tswana, tr Turkish, ts Tsonga, ug Uyghur,
uk Ukrainian, ur Urdu, uz Uzbek, vi Vietnamese, vo Volapük, wa Walloon, wo Wolof, xh Xhosa, yo Yoruba, zh Chinese,
zu Zulu, ace Acehnese, ary Moroccan Arabic, arz Egyptian Arabic, ba Bashkir, bcl Central Bikol, crh Crimean Tatar,
ext Extremaduran, fuv Nigerian Fulfulde, fy Western Frisian, gcf Antillean Creole, gcr Guianese Creole,
gd Scottish Gaelic, gom Goan Konkani, grc Ancient Greek, gug Paraguayan Guarani, guw Gun, hbo Ancient Hebrew,
kab Kabyle, ki Kikuyu, kik Kikuyu, lij Ligurian, ltg Latgalian, nso Northern Sotho, pcm Nigerian Pidgin, sa Sanskrit,
sdh Southern Kurdish, tk Turkmen, tt Tatar, uzs Southern Uzbek, vec Venetian, wuu Wu Chinese, yue Cantonese,
zxx no language
"""
LANGUAGES = {code: name for code, name in (entry.strip().split(" ", 1) for entry in _LANGUAGES.split(","))}


def network_name(network: str) -> str:
    """Return a network's name as people read it. Pure."""
    return NETWORKS.get(network, network)


def in_order(networks: Iterable[str]) -> list[str]:
    """Return the networks in the order of all charts and tables, each once. Pure."""
    rank = {network: place for place, network in enumerate(NETWORKS)}
    return sorted(set(networks), key=lambda network: (rank.get(network, len(rank)), network))


def language_name(code: str) -> str:
    """Return a language's English name; the code itself where we have none. Pure."""
    return LANGUAGES.get(code.split("-")[0], code)


def readable(words: str) -> str:
    """Return foreign words without the signs that nobody can read and that break what shows them. Pure."""
    return _UNREADABLE.sub("", words)


def two_digits(number: int) -> int:
    """Round a whole number to two significant digits, halves up: 1,610 is 1,600 and 1,250 is 1,300. Pure."""
    unit = 10 ** max(0, len(str(abs(number))) - 2)
    return (number + unit // 2) // unit * unit


def share(part: int, whole: int) -> float | None:
    """Return part ÷ whole in whole percent (0.62), halves up; None without a whole. Pure."""
    return (200 * part + whole) // (2 * whole) / 100 if whole else None


def number(value: int | None) -> str:
    """Return a count as it is printed: 12,345, and – where nobody knows. Pure."""
    return "–" if value is None else f"{value:,}"


def percent(part: int, whole: int) -> str:
    """Return a share as it is printed: 62 %, and "2 of 5" under 20 cases. Pure."""
    part_of_whole = share(part, whole)
    if part_of_whole is None:
        return "–"
    return f"{part} of {whole}" if whole < 20 else f"{part_of_whole:.0%}".replace("%", " %")


def counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 post", "2 posts". Pure."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
