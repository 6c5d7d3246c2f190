"""What X says: its refusals, its prices and limits, and how it writes texts and times."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

EPOCH_MS = 1_288_834_974_657
WEEK = timedelta(days=7)
SEARCH_EDGE = timedelta(seconds=30)
PROBLEMS = "https://api.twitter.com/2/problems/"
DUPLICATE = "You are not allowed to create a Tweet with duplicate content."
REPLY_GATE = (
    "Reply to this conversation is not allowed because you have not been mentioned or otherwise engaged by the author "
    "of the post you are replying to."
)
QUOTE_GATE = "You can only reply to or quote posts where you are mentioned or are the author."
PRICES = {
    "post read": 0.005, "owned read": 0.001, "author read": 0.010, "create": 0.015, "create with link": 0.200,
    "delete": 0.010, "metadata": 0.005, "counts": 0.005,
}  # fmt: skip
LIMITS = {
    "POST /2/tweets": 100, "DELETE /2/tweets": 50, "search": 450, "counts": 300, "upload": 500, "timeline": 900,
    "lookup": 3_500, "me": 75, "other": 900,
}  # fmt: skip
PNG, JPEG, GIF, WEBP = b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"RIFF"
MAGIC = {"image/png": PNG, "image/jpeg": JPEG, "image/gif": GIF, "image/webp": WEBP}

TWEET_FIELDS = {
    "article", "attachments", "author_id", "card_uri", "community_id", "context_annotations", "conversation_id",
    "created_at", "display_text_range", "edit_controls", "edit_history_tweet_ids", "entities", "geo", "id",
    "in_reply_to_user_id", "lang", "media_metadata", "note_tweet", "note_post", "possibly_sensitive", "public_metrics",
    "referenced_tweets", "reply_settings", "scopes", "source", "text", "withheld",
}  # fmt: skip
USER_FIELDS = {
    "created_at", "description", "entities", "id", "location", "name", "protected", "public_metrics", "url",
    "username", "verified", "verified_type", "withheld", "profile_image_url", "pinned_tweet_id",
}  # fmt: skip
MEDIA_FIELDS = {"alt_text", "height", "media_key", "type", "url", "width", "public_metrics", "duration_ms"}
EXPANSIONS = {
    "attachments.media_keys", "author_id", "edit_history_tweet_ids", "edit_history_post_ids",
    "entities.mentions.username", "in_reply_to_user_id", "referenced_tweets.id", "referenced_tweets.id.author_id",
    "referenced_posts",
}  # fmt: skip
BODY = {
    "text", "reply", "media", "quote_tweet_id", "quote_post_id", "poll", "reply_settings", "geo", "nullcast",
    "for_super_followers_only", "direct_message_deep_link", "made_with_ai", "community_id",
}  # fmt: skip
METRICS = ("retweet_count", "reply_count", "like_count", "quote_count", "bookmark_count", "impression_count")
SHAPE = {"tweet.fields", "post.fields", "user.fields", "media.fields", "place.fields", "poll.fields", "expansions"}


class Problem(Exception):
    """A refusal, with the body that X gives."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, dict(body), dict(headers or {})


def invalid(message: str, parameter: str = "", value: object = "") -> Problem:
    """Return X's 400."""
    return Problem(
        400,
        {
            "errors": [{"parameters": {parameter: [str(value)]} if parameter else {}, "message": message}],
            "title": "Invalid Request",
            "detail": "One or more parameters to your request was invalid.",
            "type": PROBLEMS + "invalid-request",
        },
    )


def forbidden(detail: str, tail: str = "", title: str = "Forbidden") -> Problem:
    """Return X's 403, blank or with the tail of a problem."""
    kind = PROBLEMS + tail if tail else "about:blank"
    return Problem(403, {"detail": detail, "type": kind, "title": title, "status": 403})


def unauthorized() -> Problem:
    """Return X's 401."""
    return Problem(401, {"title": "Unauthorized", "type": "about:blank", "status": 401, "detail": "Unauthorized"})


def not_found(id_: str, kind: str = "tweet", parameter: str = "id") -> dict[str, Any]:
    """Return X's partial error for what is not there."""
    return {
        "value": id_,
        "detail": f"Could not find {kind} with {parameter}: [{id_}].",
        "title": "Not Found Error",
        "resource_type": kind,
        "parameter": parameter,
        "resource_id": id_,
        "type": PROBLEMS + "resource-not-found",
    }


def no_credits(account: str) -> dict[str, str]:
    """Return the body of X's 402."""
    detail = f"Your enrolled account [{account}] does not have any credits to fulfill this request."
    return {"title": "CreditsDepleted", "detail": detail, "type": PROBLEMS + "credits"}


TOO_MANY = {"title": "Too Many Requests", "detail": "Too Many Requests", "type": "about:blank", "status": 429}
USAGE_CAP = {
    "title": "UsageCapExceeded", "detail": "Usage cap exceeded: Monthly product cap", "type": PROBLEMS + "usage-capped",
    "period": "Monthly", "scope": "Product",
}  # fmt: skip
POST_NAMES = {
    "edit_history_tweet_ids": "edit_history_post_ids",
    "referenced_tweets": "referenced_posts",
    "tweets": "posts",
    "retweet_count": "repost_count",
    "tweet_count": "post_count",
    "total_tweet_count": "total_post_count",
}
TAG = re.compile(r"(?<![\w&])[#＃](\w*[^\W\d]\w*)")
_URL = re.compile(
    r"https?://[^\s<>\"“”]+[^\s<>\"“”.,;:!?)'\]]"
    r"|(?<![@\w./#-])(?:[a-zA-Z0-9][a-zA-Z0-9-]*\.)+(?:org|com|net|md|main|io|uk|tz|example|Next)(?![\w@-])(?:/[^\s]*[^\s.,;:!?)])?"
)


def urls_of(text: str) -> list[tuple[int, int]]:
    """Return where X sees links: with a scheme, and bare domains of well-known ends."""
    return [match.span() for match in _URL.finditer(text)]


def weight(text: str) -> int:
    """Return what the text weighs, roughly: links 23, light scripts 1, all else 2, an emoji 2 with all its joins."""
    text = unicodedata.normalize("NFC", text)
    total = 0
    for start, end in reversed(urls_of(text)):
        total += 23
        text = text[:start] + text[end:]
    text = re.sub(r"\u200d[\u2600-\U0001faff]|[\ufe0f\U0001f3fb-\U0001f3ff]", "", text)
    light = re.compile(r"[\u0000-\u10FF\u2000-\u200D\u2010-\u201F\u2032-\u2037]")
    return total + sum(1 if light.match(sign) else 2 for sign in text)


def stamp(moment: datetime) -> str:
    """Return a moment as X writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def quoted_sign(text: str) -> str:
    return quote(text, safe="~")


def unquoted_sign(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda hit: chr(int(hit[1], 16)), text)
