"""The recount: what the feed holds, straight from its file and by rules written here a second time."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import regex

from shareasm.errors import Unreachable
from shareasm.networks.practice import FEED, Truth
from shareasm.networks.practice.state import Member

TAG = regex.compile(r"(?<![\p{L}\p{M}\p{N}_#＃])[#＃]([\p{L}\p{M}\p{N}_]+)")


def recount(folder: Path, hashtags: Sequence[str]) -> Truth:
    """Return the truth about a feed."""
    events = _lines(folder / FEED)
    tags = {t.lstrip("#").casefold() for t in hashtags or [e["opening"]["hashtag"] for e in events if "opening" in e]}
    posts = {e["id"]: {"kind": "original", "text": "", "lang": "", **e} for e in events if e["do"] == "post"}
    texts = {i: p["text"] for i, p in posts.items()} | {e["of"]: e["text"] for e in events if e["do"] == "edit"}
    gone = {e["of"] for e in events if e["do"] == "gone"}
    said = {i for i, p in posts.items() if p["kind"] != "repost"}
    spoken = {i for i in said if tags & set(_tags(texts[i]))}
    mentions = spoken | {i for i, p in posts.items() if p["kind"] == "repost" and p["of"] in spoken}
    standing = spoken - gone
    acts = [p for i, p in posts.items() if i not in gone]
    return Truth(
        mentions=len(mentions),
        kinds=Counter(posts[i]["kind"] for i in mentions),
        languages=Counter(posts[i]["lang"] for i in spoken),
        contributors=len({posts[i]["by"] for i in mentions}),
        ours=sum("key" in p for p in posts.values()),
        untagged=len(said - spoken),
        edited=len({e["of"] for e in events if e["do"] == "edit"} & spoken),
        deleted=len(mentions & gone),
        likes=len({(e["of"], who) for e in events if e["do"] == "like" and e["of"] in standing for who in e["who"]}),
        reposts=sum(p["kind"] == "repost" and p["of"] in standing for p in acts),
        replies=sum(p["kind"] == "reply" and p["of"] in standing for p in acts),
        quotes=sum(p.get("quote", "") in standing for p in acts),
    )


def members(folder: Path) -> list[Member]:
    """Return the accounts that the feed in this folder knows; none where there is no feed."""
    lines = _lines(folder / FEED) if (folder / FEED).exists() else []
    return [msgspec.convert(line["person"], Member) for line in lines if line["do"] == "account"]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of all whole steps as they stand in the file, for those who trust no one else's reading."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreachable(f"{path.name} could not be read: {error}", network="practice") from error
    whole: list[dict[str, Any]] = []
    step: list[dict[str, Any]] = []
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        step.append(json.loads(line))
        if not step[-1].get("left"):
            whole += step
            step = []
    return whole


def _tags(text: str) -> list[str]:
    return [unicodedata.normalize("NFKC", tag).casefold() for tag in TAG.findall(text)]
