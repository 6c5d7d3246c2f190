"""Instance: what a server says about itself: its software and its limits."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from shareasm.errors import Unreachable
from shareasm.model import Limits
from shareasm.networks import Setting
from shareasm.networks.mastodon import LIMITS
from shareasm.networks.mastodon.line import Line, dict_of, text_of

KEPT_FOR, ASK_AGAIN_AFTER = timedelta(hours=1), timedelta(minutes=1)

KEEP_KEYS = frozenset({"mastodon", "hometown", "hollo", "mastodon_mock"})
"""Software that keeps an Idempotency-Key, by the name of its repository (forks keep that name).

GoToSocial 0.20, Takahe and snac were measured to ignore it, Pixelfed says so (pixelfed#3581); of others nobody knows.
"""
JOIN_TAGS = frozenset({"mastodon", "hometown"})
"""Software whose tag timeline honours `any[]`. Elsewhere it may be ignored, and the other tags would be missing."""


class Instance(msgspec.Struct, frozen=True):
    """What `/api/v2/instance` told, and when."""

    at: datetime
    software: str = ""
    version: str = ""
    domain: str = ""
    limits: Limits = LIMITS

    @property
    def honours_key(self) -> bool:
        """Whether the server is known to make one post of one Idempotency-Key. Unknown means no."""
        return self._is_one_of(KEEP_KEYS)

    @property
    def joins_tags(self) -> bool:
        """Whether several hashtags can be asked for at once."""
        return self._is_one_of(JOIN_TAGS)

    @property
    def words(self) -> str:
        """The software in words."""
        return f"{self.software or 'unknown software'} {self.version}".strip()

    def _is_one_of(self, names: frozenset[str]) -> bool:
        # “4.2.0 (compatible; Pixelfed 0.12)”, “4.0.0 (not true; really snac)”: other software in Mastodon's clothes.
        return self.software in names and "(" not in self.version


class Instances:
    """A server's word about itself, asked for once an hour and kept between runs."""

    def __init__(self, setting: Setting, line: Line) -> None:
        self._setting, self._line = setting, line
        self._known = self._load()
        self._asked_at: datetime | None = None

    @property
    def known(self) -> Instance | None:
        """What was told last, however long ago. Nothing is asked."""
        return self._known

    def read(self, end: float, *, token: str = "") -> Instance | None:
        """Return what the server says, or said last. Ask when that is an hour old. Never raises."""
        now = self._setting.clock.now()
        if self._known is not None and now - KEPT_FOR < self._known.at <= now:
            return self._known
        if self._asked_at is None or not self._asked_at <= now < self._asked_at + ASK_AGAIN_AFTER:
            self._asked_at = now
            self._ask(end, token, now)
        return self._known

    def _ask(self, end: float, token: str, now: datetime) -> None:
        try:
            answer = self._line.get(end, "/api/v2/instance", token=token)
        except Unreachable:
            return
        if answer.is_fine and answer.object:
            self._known = instance_of(answer.object, now)
            self._setting.save("instance", msgspec.json.encode(self._known).decode())

    def _load(self) -> Instance | None:
        try:
            return msgspec.json.decode(self._setting.load("instance") or "null", type=Instance | None)
        except msgspec.MsgspecError:
            return None  # an older desk kept it in another form


def instance_of(told: Any, at: datetime) -> Instance:
    """Return what the answer says; each part that cannot be read keeps its default. Pure."""
    told = dict_of(told)
    configuration = dict_of(told.get("configuration"))
    source = text_of(told.get("source_url")).rstrip("/").removesuffix(".git")
    return Instance(
        at=at,
        software=source.rpartition("/")[2].casefold(),
        version=text_of(told.get("version"))[:100],
        domain=text_of(told.get("domain")).casefold(),
        limits=_limits(configuration),
    )


def _limits(configuration: Any) -> Limits:
    statuses = dict_of(configuration.get("statuses"))
    media = dict_of(configuration.get("media_attachments"))

    def number(told: Any, default: int) -> int:
        return told if isinstance(told, int) and not isinstance(told, bool) and 0 < told < 2**40 else default

    return Limits(
        count=LIMITS.count,
        text=number(statuses.get("max_characters"), LIMITS.text),
        link_weight=number(statuses.get("characters_reserved_per_url"), LIMITS.link_weight or 23),
        pictures=number(statuses.get("max_media_attachments"), LIMITS.pictures),
        picture_bytes=number(media.get("image_size_limit"), LIMITS.picture_bytes),
        alt_text=number(media.get("description_limit"), LIMITS.alt_text),
        languages=LIMITS.languages,
        cards=LIMITS.cards,
    )
