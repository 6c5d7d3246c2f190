"""What X is asked, and in which shape it answers: parameters, bounds, fields and expansions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.parser import BytesParser
from email.policy import HTTP
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tests.servers.strict_x.things import Account, Post, Upload
from tests.servers.strict_x.words import (
    EPOCH_MS,
    EXPANSIONS,
    MEDIA_FIELDS,
    METRICS,
    POST_NAMES,
    SHAPE,
    TWEET_FIELDS,
    USER_FIELDS,
    WEEK,
    invalid,
    stamp,
)

if TYPE_CHECKING:
    from tests.servers.strict_x.state import StrictX


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    verb: str
    path: str
    query_pairs: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form_pairs(self) -> list[tuple[str, str]]:
        """The fields of a form, which OAuth 1.0a signs too."""
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return []
        return parse_qsl(self.body.decode(), keep_blank_values=True)

    def one(self, name: str, default: str) -> str:
        """Return a parameter. One that comes twice is refused."""
        found = [value for key, value in self.query_pairs if key == name]
        if len(found) > 1:
            raise invalid(f"The query parameter [{name}] was given twice", name)
        return found[0] if found else default

    def refuse_but(self, known: set[str]) -> None:
        """Refuse what X does not know."""
        for name, value in self.query_pairs:
            if name not in known:
                words = f"The query parameter [{name}] is not one of [{','.join(sorted(known))}]"
                raise invalid(words, name, value)

    def json(self) -> dict[str, Any]:
        """Return the body's object."""
        if not self.headers.get("content-type", "").startswith("application/json"):
            raise invalid("Requests with bodies must have content-type of application/json.")
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise invalid("The body of the request is no JSON object.")
        return value

    def piece(self) -> tuple[int, bytes]:
        """Return the index and the bytes of one segment."""
        kind = self.headers.get("content-type", "")
        if kind.startswith("application/json"):
            body = self.json()
            return int(body.get("segment_index", -1)), base64.b64decode(str(body.get("media", "")))
        if not kind.startswith("multipart/form-data"):
            raise invalid("append wants multipart/form-data")
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        parts = {}
        for part in BytesParser(policy=HTTP).parsebytes(head + self.body).iter_parts():
            parts[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True)
        if set(parts) != {"media", "segment_index"}:
            raise invalid(f"append wants media and segment_index, not {sorted(map(str, parts))}")
        index = bytes(parts["segment_index"]).decode()
        return (int(index) if index.isdigit() else -1), bytes(parts["media"])


def whole(request: Request, name: str, default: int, least: int, most: int) -> int:
    value = request.one(name, str(default))
    if not value.isdigit() or not least <= int(value) <= most:
        raise invalid(f"The `{name}` query parameter value [{value}] is not between {least} and {most}", name, value)
    return int(value)


def query_of(request: Request) -> str:
    words = request.one("query", "")
    if not words.strip():
        raise invalid("The `query` query parameter can not be empty", "query")
    if len(words) > 512:
        raise invalid("The `query` query parameter value is too long: at most 512 characters", "query", words)
    return words


BOUNDS = ("start_time", "end_time", "since_id", "until_id")


@dataclass(frozen=True)
class Bounds:
    """A stretch of time or ids. Ids are compared as numbers."""

    start: datetime | None = None
    end: datetime | None = None
    since: int | None = None
    until: int | None = None

    @classmethod
    def of(cls, request: Request, x: StrictX, *, week: bool = False, edge: bool = False) -> Bounds:
        """Read and check the bounds of a request."""
        now = x.clock.now()
        for pair in (("start_time", "since_id"), ("end_time", "until_id")):
            if all(request.one(name, "") for name in pair):
                raise invalid(f"At most one of `{pair[0]}`, `{pair[1]}` may be provided.", pair[0])
        start, end = _moment(request, "start_time"), _moment(request, "end_time")
        since, until = _id(request, "since_id"), _id(request, "until_id")
        wall = now - WEEK
        if week and start and start < wall:
            raise invalid(f"'start_time' must be on or after {stamp(wall)}", "start_time", stamp(start))
        oldest = (int(wall.timestamp() * 1000) - EPOCH_MS) << 22
        if week and since is not None and since < oldest:
            raise invalid(f"'since_id' must be a tweet id created after {stamp(wall)}", "since_id", since)
        if edge and end and end > now - timedelta(seconds=10):
            raise invalid(
                "'end_time' must be a minimum of 10 seconds prior to the request time", "end_time", stamp(end)
            )
        if start and end and start >= end:
            raise invalid("'end_time' must be after 'start_time'", "end_time")
        if edge and end is None and since is None and until is None:
            end = now - x.search_edge
        return cls(start, end, since, until)

    def hold(self, post: Post) -> bool:
        """Return True when the post is inside: from `start` on, before `end`, above `since`, below `until`."""
        if (self.start and post.created_at < self.start) or (self.end and post.created_at >= self.end):
            return False
        above = self.since is None or int(post.id) > self.since
        return above and (self.until is None or int(post.id) < self.until)


def _moment(request: Request, name: str) -> datetime | None:
    value = request.one(name, "")
    if not value:
        return None
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z", value):
        raise invalid(f"The `{name}` query parameter value [{value}] is not valid", name, value)
    return datetime.fromisoformat(value)


def _id(request: Request, name: str) -> int | None:
    value = request.one(name, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise invalid(f"The `{name}` query parameter value [{value}] is not valid", name, value)
    return int(value)


@dataclass
class Shape:
    """What a reader wants to see of posts, accounts and media."""

    x: StrictX
    tweet: set[str]
    people: set[str]
    media: set[str]
    expansions: set[str]

    @classmethod
    def of(cls, request: Request, x: StrictX, more: set[str]) -> Shape:
        """Read and check fields and expansions, in both vocabularies; every other parameter is refused."""
        request.refuse_but({*SHAPE, *more})
        tweet = _listed(request, "tweet.fields") | _listed(request, "post.fields")
        both = TWEET_FIELDS | {POST_NAMES.get(name, name) for name in TWEET_FIELDS}
        wanted = (
            ("tweet.fields", tweet, both),
            ("user.fields", _listed(request, "user.fields"), USER_FIELDS),
            ("media.fields", _listed(request, "media.fields"), MEDIA_FIELDS),
            ("expansions", _listed(request, "expansions"), EXPANSIONS),
        )
        for name, given, known in wanted:
            if given - known:
                wrong = sorted(given - known)[0]
                raise invalid(
                    f"The `{name}` query parameter value [{wrong}] is not one of [{','.join(sorted(known))}]",
                    name,
                    wrong,
                )
        old = {new: name for name, new in POST_NAMES.items()}
        return cls(x, {old.get(name, name) for name in tweet}, wanted[1][1], wanted[2][1], wanted[3][1])

    def post(self, post: Post) -> dict[str, Any]:
        """Return a post: id, text and its versions always, all else on demand."""
        metrics = {name: post.metrics.get(name, 0) for name in METRICS}
        parent = self.x.posts.get(post.id_of("replied_to"))
        all_: dict[str, Any] = {
            "created_at": stamp(post.created_at).replace(stamp(post.created_at)[-5:], ".000Z"),
            "author_id": post.author,
            "conversation_id": post.conversation,
            "lang": post.lang,
            "entities": post.entities,
            "public_metrics": {self._name(name): number for name, number in metrics.items()},
            "referenced_tweets": [{"type": kind, "id": id_} for kind, id_ in post.references],
            "in_reply_to_user_id": parent.author if parent else "",
            "attachments": {"media_keys": post.media} if post.media else {},
            "possibly_sensitive": False,
            "reply_settings": "everyone",
            "source": "strict",
            "withheld": {"copyright": False, "country_codes": list(post.withheld)} if post.withheld else {},
        }
        shown = {
            self._name(name): value for name, value in all_.items() if name in self.tweet and value not in ({}, [], "")
        }
        return {
            "id": post.id,
            "text": post.text,
            self._name("edit_history_tweet_ids"): post.versions or [post.id],
        } | shown

    def user(self, account: Account) -> dict[str, Any]:
        """Return an account: id, name and username always."""
        made = sum(1 for post in self.x.posts.values() if post.author == account.id)
        metrics = {
            "followers_count": account.followers,
            "following_count": 10,
            self._name("tweet_count"): made,
            "listed_count": 0,
        }
        all_: dict[str, Any] = {
            "created_at": stamp(account.created_at).replace(stamp(account.created_at)[-5:], ".000Z"),
            "protected": account.protected,
            "public_metrics": metrics,
            "verified": False,
            "description": "",
        }
        always = {"id": account.id, "name": account.name, "username": account.username}
        return always | {name: value for name, value in all_.items() if name in self.people}

    def medium(self, upload: Upload) -> dict[str, Any]:
        """Return a picture: key and type always, its alt text on demand."""
        kind = "animated_gif" if upload.category == "tweet_gif" else "photo"
        all_ = {"alt_text": upload.alt, "url": f"https://pbs.twimg.com/media/{upload.id}.png"}
        return {"media_key": upload.key, "type": kind} | {
            name: v for name, v in all_.items() if name in self.media and v
        }

    def _name(self, name: str) -> str:
        return POST_NAMES.get(name, name) if self.x.names == "post" else name


def _listed(request: Request, name: str) -> set[str]:
    return {one for one in request.one(name, "").split(",") if one}
