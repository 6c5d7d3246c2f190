"""Files: a folder of `scheduled_posts/` as a campaign, its posts, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from shareasm.desk import TomlTable, known_zone, parse_toml
from shareasm.errors import ConfigError, DeskError, PlanError, Problem
from shareasm.model import Ambiguous, Campaign, Media, Post
from shareasm.plan.check import PLANS, check_accounts, check_alt_texts, line_of
from shareasm.plan.frontmatter import Lines, Value, Wording, read_body, split_file
from shareasm.plan.media import Picture, read_inside, read_media, read_picture
from shareasm.plan.times import read_duration, read_moment, read_not_after, to_utc, zone
from shareasm.text import did_you_mean, hashtags

KEYS = (
    *("id", "publish_at", "tz", "lang", "accounts", "status", "not_after", "if_late", "media", "link", "reply_to"),
    *("warning", "labels"),
)
MAX_FILE = 262_144

_T = TypeVar("_T")
_ID = re.compile(r"[a-z0-9-]{1,60}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")
_FOCUS = re.compile(r"-?[01](\.\d+)?, ?-?[01](\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CampaignPlan:
    """What a campaign's folder says: the posts that could be read, by time, and everything that is wrong.

    `of_posts` are the problems of each post by its id. `unreadable` are the files from which a post did not come that
    should have: what the desk knew of them stands, they are not “missing”.
    """

    campaign: Campaign
    posts: tuple[Post, ...]
    problems: tuple[Problem, ...]
    of_posts: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


def campaign_folders(desk_folder: Path) -> list[Path]:
    """Return the folders of all campaigns of a desk, by name."""
    return sorted(file.parent for file in (desk_folder / PLANS).glob("*/campaign.toml"))


def read_campaign(folder: Path, *, desk_accounts: Sequence[str], tz_default: str) -> CampaignPlan:
    """Read a campaign's folder. Nothing is written.

    A post file with a mistake is a problem with its line and costs nothing else; without a good campaign.toml there is
    no campaign, so that raises PlanError.
    """
    campaign = read_campaign_file(folder, tz_default=tz_default)
    find = cache(lambda file: read_picture(read_media(folder, file)))
    read: dict[str, PostFile] = {}
    for file in sorted(folder.glob("*.md")):
        if file.name.startswith(".") or file.stem.casefold() == "readme":
            continue
        try:
            content = read_inside(folder, file.name, max_bytes=MAX_FILE)
        except PlanError as error:
            read[file.name] = PostFile(problems=(_problem(error, f"{PLANS}/{folder.name}/{file.name}"),))
        else:
            read[file.name] = read_post_file(content, file.name, campaign, accounts=desk_accounts, find=find)
    posts = _without_twins([post for one in read.values() for post in one.posts], campaign, problems := _Problems(read))
    posts = _with_replies(posts, campaign, problems)
    return CampaignPlan(
        campaign=campaign,
        posts=tuple(sorted(posts, key=lambda post: (post.due_at, post.id))),
        problems=problems.all(),
        of_posts=problems.of_posts(posts),
        unreadable=tuple(name for name, file in read.items() if not file.whole or name not in {p.file for p in posts}),
    )


def read_campaign_file(folder: Path, *, tz_default: str) -> Campaign:
    """Read campaign.toml. Raise PlanError with the line or the key."""
    where = f"{PLANS}/{folder.name}/campaign.toml"
    try:
        return _campaign(
            folder.name, parse_toml(read_inside(folder, "campaign.toml", max_bytes=MAX_FILE), where), tz_default
        )
    except ConfigError as error:
        raise PlanError(error.happened, error.what_to_do, where=error.where) from error
    except PlanError as error:
        raise PlanError(error.happened, error.what_to_do, where=error.where or where) from error


@dataclass(frozen=True, slots=True)
class PostFile:
    """What one file says: a post per language (`whole` when all came), its problems, and each post's by its id."""

    posts: tuple[Post, ...] = ()
    problems: tuple[Problem, ...] = ()
    of_posts: Mapping[str, tuple[Problem, ...]] = field(default_factory=dict)
    whole: bool = False


def read_post_file(
    content: bytes, file: str, campaign: Campaign, *, accounts: Sequence[str], find: Callable[[str], Picture]
) -> PostFile:
    """Return the posts of one file, one per language, and what is wrong with them. Never raises for what it holds.

    `accounts` are the desk's; `find` looks at a picture by its name and raises PlanError when it cannot be used.
    """
    where = f"{PLANS}/{campaign.folder}/{file}"
    try:
        header, body = split_file(content, where)
    except PlanError as error:
        return PostFile(problems=(_problem(error, f"{where}:1"),))
    reader = _Reader(file, where, header, campaign, tuple(accounts), find)
    try:
        return reader.read(body)
    except PlanError as error:
        return PostFile(problems=(*reader.problems, _problem(error, f"{where}:1")))


class _Reader:
    """One file while it is read: its front matter, and the problems found so far."""

    def __init__(
        self,
        file: str,
        where: str,
        header: Mapping[str, Value],
        campaign: Campaign,
        accounts: tuple[str, ...],
        find: Callable[[str], Picture],
    ) -> None:
        self.file = file
        self.where = where
        self.header = header
        self.campaign = campaign
        self.accounts = accounts
        self.find = find
        self.problems: list[Problem] = []
        self.languages: tuple[str, ...] = ()

    def read(self, body: Lines) -> PostFile:
        """Return a post for each language that can be read. Raise PlanError when none can."""
        self._look_at_keys()
        self.languages = self._languages()
        for key in ("publish_at", "tz", "accounts"):
            self._look_at_languages(self.header.get(key))
        wordings = read_body(body, self.languages, self.where)
        message = self._text("id")
        if not _ID.fullmatch(message):
            raise self._mistake("id", f"“{message}” is no id.", "Use small letters, digits and “-”, at most 60.")
        ready = self._one_of("status", ("draft", "ready"), None) == "ready"
        of_file, posts, of_posts = self._take_problems(), [], {}
        everything = list(of_file)
        for language in self.languages:
            try:
                post = self._post(message, language, [w for w in wordings if w.language == language])
            except PlanError as error:
                everything += [*self._take_problems(), _problem(error, self.where)]
                continue
            found = [*of_file, *self._take_problems(), *check_accounts(post, self.campaign, self.accounts)]
            found += check_alt_texts(post, self.campaign)
            everything += found
            of_posts[post.id] = tuple(found)
            posts.append(replace(post, ready=ready and not any(problem.level == "error" for problem in found)))
        return PostFile(tuple(posts), tuple(dict.fromkeys(everything)), of_posts, len(posts) == len(self.languages))

    def _post(self, message: str, language: str, wordings: Sequence[Wording]) -> Post:
        if not wordings:
            raise self._mistake("lang", f"There is no text for {language}.", f"Write it under `## {language}`.")
        zone_name = self._for("tz", language) or self.campaign.time_zone
        self._checked("tz", zone, zone_name)
        typed = self._for("publish_at", language)
        if not typed:
            raise self._mistake("publish_at", f"publish_at is missing for {language}.", "Write it as 2015-06-25T08:00.")
        due_at = self._checked("publish_at", lambda words: read_moment(words, zone_name), typed)
        limit = self._text("not_after", "")
        return Post(
            id=f"{message}.{language}",
            message=message,
            language=language,
            due_at=due_at,
            due_local=typed,
            time_zone=zone_name,
            accounts=self._accounts(language),
            parts={wording.network: wording.parts for wording in wordings},
            ready=False,
            fold=due_at.astimezone(zone(zone_name)).fold,
            not_after=self._checked("not_after", lambda words: read_not_after(words, due_at, zone_name), limit)
            if limit
            else self.campaign.not_after,
            if_late="skip" if self._one_of("if_late", ("ask", "skip"), "ask") == "skip" else "ask",
            media=self._media(language),
            link=self._checked("link", _address, self._text("link", "")),
            reply_to=self._text("reply_to", ""),
            warning=self._text("warning", ""),
            labels=self._texts("labels"),
            file=self.file,
            line=wordings[0].lines[0],
            lines=self._lines(wordings),
        )

    def _languages(self) -> tuple[str, ...]:
        languages = self._texts("lang")
        for language in languages:
            if not _LANGUAGE.fullmatch(language):
                raise self._mistake("lang", f"“{language}” is no language.", "Write it as en, sw or pt-BR.")
        if not languages:
            raise self._mistake("lang", "lang is missing.", "Write it as lang: en or lang: [en, sw].")
        if len({language.casefold() for language in languages}) < len(languages):
            raise self._mistake("lang", "A language stands here twice.", "Keep one.")
        return languages

    def _look_at_keys(self) -> None:
        for key, value in self.header.items():
            if key not in KEYS:
                self._say(value.line, f"“{key}” is not known.", did_you_mean(key, KEYS))

    def _look_at_languages(self, value: Value | None) -> None:
        for language, inner in (value.content if value and isinstance(value.content, dict) else {}).items():
            if language not in self.languages:
                self._say(
                    inner.line, f"“{language}” is no language of this post.", did_you_mean(language, self.languages)
                )

    def _accounts(self, language: str) -> tuple[str, ...]:
        value = self._value_for("accounts", language)
        if value is None:
            return self.campaign.accounts or self.accounts
        return tuple(dict.fromkeys(self._items("accounts", value)))

    def _media(self, language: str) -> tuple[Media, ...]:
        value = self.header.get("media")
        if value is None or value.content == "":
            return ()
        if not isinstance(value.content, list):
            raise self._mistake("media", "media must be a list.", "Write it as media: [{file: a.jpg, alt: “…”}].")
        return tuple(self._picture(entry, language) for entry in value.content)

    def _picture(self, entry: Value, language: str) -> Media:
        at = f"{self.where}:{entry.line}"
        if not isinstance(entry.content, dict):
            raise PlanError("A picture has a file and an alt text.", "Write {file: a.jpg, alt: “…”}.", where=at)
        for key, value in entry.content.items():
            if key not in ("file", "alt", "focus"):
                self._say(value.line, f"“{key}” is not known.", did_you_mean(key, ("file", "alt", "focus")))
        file, focus = (_plain(entry.content.get(key)) for key in ("file", "focus"))
        alt = entry.content.get("alt")
        if alt and isinstance(alt.content, dict):
            self._look_at_languages(alt)
            alt = alt.content.get(language)
        if focus and not _FOCUS.fullmatch(focus):
            raise PlanError(f"focus “{focus}” is no place.", 'Write it as "0.1,-0.4".', where=at)
        try:
            picture = self.find(file)
        except PlanError as error:
            words = error.happened if error.happened.startswith("media/") else f"media/{file} {error.happened}"
            self._say(entry.line, words, error.what_to_do)
            return Media(file, _plain(alt), "", "", 0, 0, 0, focus)
        if picture.tells_place:
            self._say(entry.line, f"media/{file} tells where it was taken (GPS).", "Save it without.", warning=True)
        return picture.as_media(file, _plain(alt), focus)

    def _lines(self, wordings: Sequence[Wording]) -> dict[str, tuple[int, ...]]:
        keys: dict[str, tuple[int, ...]] = {f"{key}:": (value.line,) for key, value in self.header.items()}
        media = self.header.get("media")
        if media and isinstance(media.content, list):
            keys["media:"] = tuple(entry.line for entry in media.content)
        return keys | {wording.network: wording.lines for wording in wordings}

    def _for(self, key: str, language: str) -> str:
        value = self._value_for(key, language)
        if value is not None and not isinstance(value.content, str):
            raise self._mistake(key, f"{key} must be one text, or one per language.", "See docs.")
        return _plain(value)

    def _value_for(self, key: str, language: str) -> Value | None:
        """Return the value of a key that may hold one per language; None when there is none for this one."""
        value = self.header.get(key)
        if value is not None and isinstance(value.content, dict):
            value = value.content.get(language)
        return None if value is None or value.content == "" else value

    def _text(self, key: str, default: str | None = None) -> str:
        value = self.header.get(key)
        if value is not None and not isinstance(value.content, str):
            raise self._mistake(key, f"{key} must be one text.", "Put it in quotes.")
        if not _plain(value):
            if default is None:
                raise self._mistake(key, f"{key} is missing.", "Add it to the front matter.")
            return default
        return _plain(value)

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self.header.get(key)
        return () if value is None or value.content == "" else self._items(key, value)

    def _items(self, key: str, value: Value) -> tuple[str, ...]:
        if isinstance(value.content, str):
            return (value.content,)
        items = value.content if isinstance(value.content, list) else []
        if not items or not all(_plain(item) for item in items):
            raise self._mistake(key, f"{key} must be a text or a list of texts.", f"Write it as {key}: [a, b].")
        return tuple(_plain(item) for item in items)

    def _one_of(self, key: str, choices: tuple[str, ...], default: str | None) -> str:
        value = self._text(key, default)
        if value not in choices:
            hint = "Approval is never in a file." if value == "approved" else did_you_mean(value, choices)
            raise self._mistake(key, f"{key} “{value}” is not known.", hint)
        return value

    def _checked(self, key: str, check: Callable[[str], _T], value: str) -> _T:
        try:
            return check(value)
        except DeskError as error:
            raise self._mistake(key, error.happened, error.what_to_do) from error

    def _mistake(self, key: str, happened: str, what_to_do: str) -> PlanError:
        value = self.header.get(key)
        return PlanError(happened, what_to_do, where=f"{self.where}:{value.line if value else 1}")

    def _say(self, line: int, why: str, what_to_do: str, *, warning: bool = False) -> None:
        self.problems.append(Problem(f"{self.where}:{line}", why, what_to_do, "warning" if warning else "error"))

    def _take_problems(self) -> list[Problem]:
        taken, self.problems = self.problems, []
        return taken


def _campaign(folder: str, table: TomlTable, tz_default: str) -> Campaign:
    time_zone = table.checked("time_zone", known_zone, table.text("time_zone", tz_default))
    not_after = table.text("not_after", "15m")
    campaign = Campaign(
        folder=folder,
        name=table.text("name"),
        hashtags=_tags(table, "hashtags"),
        start=_moment(table, "start", time_zone),
        end=_moment(table, "end", time_zone),
        time_zone=time_zone,
        variants=_tags(table, "variants"),
        broken=table.texts("broken"),
        ambiguous=tuple(_ambiguous(entry) for entry in table.table_list("ambiguous")),
        look_alikes=table.texts("look_alikes"),
        accounts=table.texts("accounts"),
        languages=table.texts("languages"),
        countries=table.texts("countries"),
        groups=table.texts("groups"),
        not_after=_duration(table, "not_after", not_after),
        retention=table.text("retention", ""),
        servers=_servers(table.table("servers")),
        targets=table.table("targets").values(),
    )
    table.refuse_the_rest()
    if not campaign.hashtags:
        raise table.mistake("hashtags", "is missing.", 'Add it, as in hashtags = ["shareASM"].')
    if campaign.end <= campaign.start:
        raise table.mistake(
            "end", "is not after start.", "It is the first moment that is no longer part of the campaign."
        )
    return campaign


def _tags(table: TomlTable, key: str) -> tuple[str, ...]:
    tags = tuple(tag.lstrip("#＃") for tag in table.texts(key))
    for tag in tags:
        found = hashtags(f"#{tag}")
        if not found or found[0].text != tag:
            cut = f" Networks cut it to “{found[0].text}”: list it under broken." if found else ""
            raise table.mistake(key, f"“{tag}” is no hashtag.{cut}", "Use letters, digits and “_”.")
    return tags


def _ambiguous(table: TomlTable) -> Ambiguous:
    entry = Ambiguous(table.text("tag").lstrip("#＃"), table.texts("with"))
    table.refuse_the_rest()
    return entry


def _servers(table: TomlTable) -> dict[str, tuple[str, ...]]:
    return {network: table.texts(network) for network in table.names()}


def _moment(table: TomlTable, key: str, time_zone: str) -> datetime:
    value = table.value(key)
    try:
        if isinstance(value, str):
            return read_moment(value, time_zone)
        if isinstance(value, datetime):
            return to_utc(value, time_zone) if value.tzinfo is None else value.astimezone(zone("UTC"))
        if isinstance(value, date):
            return to_utc(datetime.combine(value, time()), time_zone)
    except (PlanError, OverflowError) as error:
        words = (error.happened, error.what_to_do) if isinstance(error, PlanError) else ("is not in the calendar.", "")
        raise table.mistake(key, *words) from error
    raise table.mistake(
        key, "must be a time." if table.has(key) else "is missing.", f"Write {key} = 2015-06-25T00:00:00."
    )


def _duration(table: TomlTable, key: str, typed: str) -> timedelta:
    try:
        return read_duration(typed)
    except PlanError as error:
        raise table.mistake(key, error.happened, error.what_to_do) from error


def _address(link: str) -> str:
    """Return the link. Raise PlanError when it is no web address."""
    if not link:
        return ""
    try:
        parts = urlsplit(link)
    except ValueError as error:
        raise PlanError(f"link “{link}” is no web address.", "Write it as https://….") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or any(sign.isspace() for sign in link):
        raise PlanError(f"link “{link}” is no web address.", "Write it as https://….")
    return link


def _plain(value: Value | None) -> str:
    return value.content if value is not None and isinstance(value.content, str) else ""


def _problem(error: DeskError, where: str) -> Problem:
    return Problem(error.where or where, error.happened, error.what_to_do)


class _Problems:
    """All problems of a folder while it is read, and those of each post."""

    def __init__(self, read: Mapping[str, PostFile]) -> None:
        self._all = [problem for file in read.values() for problem in file.problems]
        self._of_posts = {name: list(found) for file in read.values() for name, found in file.of_posts.items()}

    def add(self, post: Post, problem: Problem) -> None:
        """Add a problem of one post."""
        self._all.append(problem)
        self._of_posts.setdefault(post.id, []).append(problem)

    def all(self) -> tuple[Problem, ...]:
        """Return every problem once."""
        return tuple(dict.fromkeys(self._all))

    def of_posts(self, posts: Iterable[Post]) -> dict[str, tuple[Problem, ...]]:
        """Return the problems of these posts, by id."""
        return {post.id: tuple(dict.fromkeys(self._of_posts.get(post.id, ()))) for post in posts}


def _without_twins(posts: list[Post], campaign: Campaign, problems: _Problems) -> list[Post]:
    """Take out the posts whose id stands in two files: the desk cannot know which one is meant."""
    files: dict[str, list[str]] = {}
    for post in posts:
        if post.file not in files.setdefault(post.message, []):
            files[post.message].append(post.file)
    for post in posts:
        if len(files[post.message]) > 1:
            why = f"The id “{post.message}” stands in {' and in '.join(files[post.message])}."
            problems.add(post, Problem(line_of(post, campaign, "id:"), why, "Give one of them another id."))
    return [post for post in posts if len(files[post.message]) == 1]


def _with_replies(posts: list[Post], campaign: Campaign, problems: _Problems) -> list[Post]:
    """Turn each `reply_to` into the id of a post; what answers nothing that goes out before it is not ready."""
    known = {post.id: post for post in posts}
    found: list[Post] = []
    for post in posts:
        target = known.get(post.reply_to) or known.get(f"{post.reply_to}.{post.language}")
        if not post.reply_to:
            found.append(post)
        elif target is not None and target.due_at < post.due_at:
            found.append(replace(post, reply_to=target.id))
        else:
            why, what_to_do = "does not go out before this post.", "Move one of them."
            if target is None:
                why, what_to_do = "is no post.", did_you_mean(post.reply_to, [p.message for p in posts])
            where = line_of(post, campaign, "reply_to:")
            problems.add(post, Problem(where, f"reply_to “{post.reply_to}” {why}", what_to_do))
            found.append(replace(post, ready=False))
    return found
