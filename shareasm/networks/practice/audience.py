"""The audience: what invented people do in each ten seconds of desk time, and nothing about files or clocks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import accumulate
from random import Random

from shareasm.model import Kind
from shareasm.networks.practice.cast import Line, dice_of, lines_of, material
from shareasm.networks.practice.state import BEAT, Act, Event, FeedPost, Member, Opening, State, post_id
from shareasm.text import fold_tag, hashtags

BEATS_PER_DAY = timedelta(days=1) // BEAT

PER_DAY = {
    "original": 175.0,
    "reply": 135.0,
    "quote": 44.0,
    "repost": 200.0,
    "thanks": 34.0,
    "like": 1_700.0,
    "edit": 9.0,
    "delete": 8.0,
    "alike": 7.0,
}
"""How often an audience of 160 in a warm mood does each in a day, before what our posts stir up."""

PER_POST = {"reply": 1.5, "quote": 0.5, "repost": 3.0, "original": 0.7, "like": 20.0}
"""What each post of ours adds within its first hour."""

STIR_SECONDS = 18 * 60.0
FADE_SECONDS = 40 * 60.0
WALL_POSTS = 150
HOURS = (
    *(0.05, 0.05, 0.05, 0.05, 0.08, 0.15, 0.35, 0.6, 0.85, 1.0, 1.0, 1.15),
    *(1.5, 1.4, 1.1, 1.0, 1.0, 1.1, 1.35, 1.5, 1.2, 0.8, 0.45, 0.2),
)
FLOOD_FROM, FLOOD_POSTS, FLOOD_EVERY = timedelta(hours=14, minutes=20), 36, timedelta(seconds=40)


class Audience:
    """The people in the hall. `beat` is a pure function of the seed, the beat's number and the feed so far."""

    def __init__(self, state: State, opening: Opening) -> None:
        self.state = state
        self.opening = opening
        self.size = len(state.members)
        guests = [m for m in state.members.values() if m.loud]
        self._guests = [m for m in guests if not m.bot]
        self._bots = [m for m in guests if m.bot]
        self._flood = [m for m in state.members.values() if m.role == "flood"]
        self._weights = list(accumulate(m.loud for m in self._guests))
        self._acts: dict[str, Callable[[], Event | None]] = {
            "original": self._original,
            "reply": self._reply,
            "quote": self._quote,
            "repost": self._repost,
            "thanks": self._thanks,
            "like": self._like,
            "edit": self._edit,
            "delete": self._delete,
            "alike": self._alike,
        }

    def beat(self, number: int) -> list[Event]:
        """Return what happens in these ten seconds, in order, as one step of the feed."""
        self._start = self.opening.start + number * BEAT
        self._dice = dice_of(self.opening.seed, self.opening.number, number)
        self._busy: set[str] = set()
        self._fresh: Counter[str] = Counter()
        self._pulls: list[float] | None = None
        self._wall = self._visible()
        events = [*self._flooding(number)]
        for act, rate in self._rates().items():
            for _ in range(_poisson(self._dice, rate)):
                event = self._acts[act]()
                if event:
                    events.append(event)
        return self._in_order(events)

    def _visible(self) -> list[FeedPost]:
        wall = self.state.walls[self.opening.number]
        return [p for p in wall[-WALL_POSTS:] if p.at < self._start and not p.gone]

    def _rates(self) -> dict[str, float]:
        """Return how often each act is to be expected in this beat."""
        hour = (self._start - self.opening.start).total_seconds() / 3600 % 24
        before, after = HOURS[int(hour)], HOURS[(int(hour) + 1) % 24]
        curve = (before + (after - before) * (hour % 1)) / (sum(HOURS) / 24)
        rates = {act: n * curve * self._wakefulness(hour) / BEATS_PER_DAY for act, n in PER_DAY.items()}
        stir = self._stir()
        for act, n in PER_POST.items():
            rates[act] += n * stir
        return {act: rate * self.opening.pace for act, rate in rates.items()}

    def _wakefulness(self, hour: float) -> float:
        """Before our first post only early birds are up; without one the day begins, but never gets going."""
        if self.state.awake.get(self.opening.number, self._start) < self._start:
            return 1.0
        return 0.6 if hour >= 9 else 0.3

    def _stir(self) -> float:
        """Return the share of one post's echo that falls into this beat, over all our posts of the last hours.

        Many posts at once share one audience: the echo grows with the root of their number.
        """
        ages = [(self._start - p.at).total_seconds() for p in self._wall if p.ours and p.kind == "original"]
        recent = [age for age in ages if age < 5 * STIR_SECONDS]
        crowded = math.sqrt(max(1.0, sum(age < 1_200 for age in recent)))
        return sum(math.exp(-age / STIR_SECONDS) for age in recent) * BEAT.total_seconds() / STIR_SECONDS / crowded

    def _flooding(self, number: int) -> Iterator[Event]:
        """Yield the posts of the one account that shouts: every day from the same hour, much faster than a person."""
        since = (self._start - self.opening.start) % timedelta(days=1) - FLOOD_FROM
        shout, rest = divmod(since, FLOOD_EVERY)
        if not self._flood or rest >= BEAT or not 0 <= shout < FLOOD_POSTS:
            return
        said = self._pick("en", "flood", self._flood[0])
        if said:
            text = f"{self._filled(said, self._flood[0])} #{self.opening.hashtag}"
            yield self._post(self._flood[0], "original", text, "en", (said.key,))

    def _original(self) -> Event | None:
        author = self._guest()
        if author is None:
            return None
        language = author.languages[0] if self._chance(0.85) else self._dice.choice(author.languages)
        pool = "question" if self._chance(0.24) else "original"
        said = self._pick(language, pool, author)
        if said is None:
            return None
        links = (self._link(),) if author.group in "researcher NGO media government donor" and self._chance(0.3) else ()
        text, keys = self._filled(said, author), ()
        if pool == "original":
            text, keys = self._with_tail(text, language, author)
        if self._chance(0.05):
            text = f"{text} @{self._dice.choice(self._guests).handle}"
        text = self._tagged(text)
        return self._post(author, "original", text, language, (said.key, *keys), links=links, media=self._picture())

    def _alike(self) -> Event | None:
        author = self._guest()
        said = self._pick(author.languages[0], "alike", author) if author else None
        if author is None or said is None:
            return None
        text = f"{self._filled(said, author)} #{_look_alike(self.opening.hashtag)}"
        return self._post(author, "original", text, author.languages[0], (said.key,))

    def _reply(self) -> Event | None:
        target = self._target(self._answerable)
        author = self._guest_for(target, stranger=0.1) if target else None
        if target is None or author is None:
            return None
        pools = ("answer", "reply") if target.pool == "question" else ("reply",)
        return self._answer(author, target, pools, tagged=0.7)

    def _thanks(self) -> Event | None:
        """Answer somebody who answered: the author of a post, if it is one of the audience, comes back."""
        waiting = [p for p in self._wall if p.kind == "reply" and not p.thanked and self._start - p.at > 6 * BEAT]
        if not waiting:
            return None
        target = self._dice.choice(waiting[-40:])
        asked = self.state.posts[target.of].by
        author = self.state.members[asked]
        if not author.loud or author.bot or asked == target.by or asked in self._busy:
            return None
        return self._answer(author, target, ("thanks",), tagged=0.4)

    def _answer(self, author: Member, target: FeedPost, pools: Sequence[str], *, tagged: float) -> Event | None:
        language = target.lang if target.lang in author.languages else author.languages[0]
        said = next(filter(None, (self._pick(language, p, author, self._topic(target)) for p in pools)), None)
        if said is None:
            return None
        self._busy.add(author.handle)
        text = self._filled(said, author)
        if self._chance(0.3):
            text = f"@{target.by} {text}"
        if self._chance(tagged):
            text = f"{text} #{self._spelling()}"
        ours = [p for p in self._wall if p.ours]
        quote = ours[-1].id if ours and self._chance(0.03) else ""
        root = target.root or target.id
        return self._post(author, "reply", text, language, (said.key,), of=target.id, root=root, quote=quote)

    def _quote(self) -> Event | None:
        target = self._target(lambda p: self._carries_tag(p))
        author = self._guest_for(target, stranger=0.35) if target else None
        if target is None or author is None:
            return None
        language = author.languages[0]
        said = self._pick(language, "quote", author, self._topic(target))
        if said is None:
            return None
        text, keys = self._with_tail(self._filled(said, author), language, author)
        links = target.links if target.links and self._chance(0.5) else ()
        text = self._tagged(text) if self._chance(0.92) else text
        return self._post(author, "quote", text, language, (said.key, *keys), quote=target.id, links=links)

    def _repost(self) -> Event | None:
        target = self._target(lambda p: self._carries_tag(p))
        if target is None:
            return None
        author = self._bot() if self._chance(0.08) else self._guest_for(target, stranger=0.3)
        if author is None or author.handle in target.relayers:
            return None
        return self._post(author, "repost", "", "", (), of=target.id)

    def _like(self) -> Event | None:
        if self._chance(0.3):
            old = [p for p in self._wall if p.pool != "flood"]
            target = self._dice.choice(old) if old else None
        else:
            target = self._target(lambda p: True)
        if target is None:
            return None
        fan = self._dice.choices(self._guests, cum_weights=self._weights)[0]
        if fan.handle == target.by or fan.handle in target.likers:
            return None
        return self._event(do="like", of=target.id, who=(fan.handle,))

    def _edit(self) -> Event | None:
        able = [p for p in self._by_guests(timedelta(minutes=2), timedelta(minutes=40)) if not p.edited_at]
        if not able:
            return None
        post = self._dice.choice(able)
        self._busy.add(post.id)
        return self._event(do="edit", of=post.id, by=post.by, text=self._rewritten(post))

    def _rewritten(self, post: FeedPost) -> str:
        """Return the text with a second thought: the hashtag taken away, added, or a sentence more."""
        if post.tags and self._chance(0.15):
            return _untagged(post.text)
        if not post.tags:
            return f"{post.text} #{self.opening.hashtag}"
        said = self._pick(post.lang or "en", "edit", self.state.members[post.by])
        return f"{post.text} {said.text}" if said else post.text

    def _delete(self) -> Event | None:
        able = self._by_guests(timedelta(minutes=5), timedelta(hours=3))
        if not able:
            return None
        post = self._dice.choice(able)
        self._busy.add(post.id)
        return self._event(do="gone", of=post.id, by=post.by)

    def _by_guests(self, least: timedelta, most: timedelta) -> list[FeedPost]:
        return [p for p in self._wall if not p.ours and least <= self._start - p.at <= most and p.id not in self._busy]

    def _target(self, suits: Callable[[FeedPost], float | bool]) -> FeedPost | None:
        """Return a post that draws attention: loud, fresh, and suited to the act; None when there is none."""
        if self._pulls is None:
            self._pulls = [self._pull(p) * self._freshness(p) for p in self._wall]
        weights = [w and w * suits(p) for w, p in zip(self._pulls, self._wall, strict=True)]
        return self._dice.choices(self._wall, weights)[0] if sum(weights) > 0 else None

    def _freshness(self, post: FeedPost) -> float:
        return math.exp(-(self._start - post.at).total_seconds() / FADE_SECONDS) + 0.015

    def _pull(self, post: FeedPost) -> float:
        if post.pull < 0:
            post.pull = self._first_pull(post)
        return post.pull

    def _first_pull(self, post: FeedPost) -> float:
        if post.pool == "flood":
            return 0.0
        if post.ours:
            return 6.0 if post.kind == "original" else 0.7
        if post.pool == "alike":
            return 0.05
        if post.kind == "reply":
            return 0.3
        followers = self.state.members[post.by].followers or 0
        return (0.5 + 0.35 * math.log10(followers + 10)) * (0.6 if post.kind == "quote" else 1.0)

    def _answerable(self, post: FeedPost) -> float:
        if post.pool != "question":
            return 1.0
        # A quarter of the questions is never answered, so that the desk has some to find.
        return 0.0 if sum(map(ord, post.id)) % 4 == 0 else 2.5

    def _carries_tag(self, post: FeedPost) -> bool:
        tag = fold_tag(self.opening.hashtag)
        return tag in post.tags or f"{tag}{self.opening.start.year}" in post.tags

    def _guest(self) -> Member | None:
        for _ in range(8):
            guest = self._dice.choices(self._guests, cum_weights=self._weights)[0]
            if guest.handle not in self._busy:
                self._busy.add(guest.handle)
                return guest
        return None

    def _bot(self) -> Member | None:
        free = [bot for bot in self._bots if bot.handle not in self._busy]
        if not free:
            return None
        bot = self._dice.choice(free)
        self._busy.add(bot.handle)
        return bot

    def _guest_for(self, target: FeedPost, *, stranger: float) -> Member | None:
        """Return somebody else who reads the post's language; with some luck, somebody who does not."""
        for _ in range(12):
            guest = self._dice.choices(self._guests, cum_weights=self._weights)[0]
            reads = not target.lang or target.lang in guest.languages or self._chance(stranger)
            if reads and guest.handle != target.by and guest.handle not in self._busy:
                self._busy.add(guest.handle)
                return guest
        return None

    def _pick(self, language: str, pool: str, author: Member, topic: str = "") -> Line | None:
        """Return the line used least so far that suits the author, of this topic where there is one."""
        lines = [x for x in lines_of(language, pool) if not x.groups or author.group in x.groups]
        if topic:
            close = [x for x in lines if x.topic == topic]
            general = [x for x in lines if x.topic == "any"]
            lines = close if close and self._chance(0.75) else general or close
        if not lines:
            return None
        uses = [self.state.said[x.key] + self._fresh[x.key] for x in lines]
        least = min(uses)
        line = self._dice.choice([x for x, n in zip(lines, uses, strict=True) if n == least])
        self._fresh[line.key] += 1
        return line

    def _topic(self, post: FeedPost) -> str:
        said = post.said[0].split(".")[2] if post.said else ""
        if said and said != "any":
            return said
        text = post.text.casefold()
        topics = material().topics.items()
        return next((topic for topic, words in topics if any(word in text for word in words)), "any")

    def _filled(self, said: Line, author: Member) -> str:
        """Return the line with places and numbers of its own."""
        fields = material().fields
        home = fields if author.country in material().abroad else material().places.get(author.country, fields)
        place = self._dice.choice(home)
        return said.text.format(
            place=material().spelled.get(said.key[:2], {}).get(place, place),
            field=self._dice.choice(fields),
            few=self._dice.randrange(3, 10),
            n=self._dice.randrange(11, 68),
            many=self._dice.randrange(2, 40) * 25,
            pct=self._dice.randrange(3, 18) * 5,
        )

    def _with_tail(self, text: str, language: str, author: Member) -> tuple[str, tuple[str, ...]]:
        tail = self._pick(language, "tail", author) if self._chance(0.3) else None
        return (f"{text} {tail.text}", (tail.key,)) if tail else (text, ())

    def _tagged(self, text: str) -> str:
        way = self._dice.random()
        if way < 0.1:
            return f"#{self._spelling()}: {text}"
        return f"{text}\n#{self._spelling()}" if way < 0.2 else f"{text} #{self._spelling()}"

    def _spelling(self) -> str:
        tag = self.opening.hashtag
        ways = (tag, tag.casefold(), tag[:1].upper() + tag[1:], tag.upper(), f"{tag}{self.opening.start.year}")
        return self._dice.choices(ways, (80, 9, 5, 3, 3))[0]

    def _link(self) -> str:
        links = material().links
        return links[min(int(self._dice.expovariate(0.22)), len(links) - 1)]

    def _picture(self) -> tuple[str, ...]:
        return (f"practice:picture/{self._dice.randrange(1_000, 9_999)}",) if self._chance(0.07) else ()

    def _chance(self, share: float) -> bool:
        return self._dice.random() < share

    def _post(
        self,
        author: Member,
        kind: Kind,
        text: str,
        lang: str,
        said: tuple[str, ...],
        *,
        of: str = "",
        root: str = "",
        quote: str = "",
        links: tuple[str, ...] = (),
        media: tuple[str, ...] = (),
    ) -> Event:
        text = " ".join([text, *(link for link in links if link not in text)])
        told = lang if self._chance(0.94) else ""
        return self._event(
            do="post", by=author.handle, kind=kind, text=text, lang=told, said=said,
            of=of, root=root, quote=quote, links=links, media=media,
        )  # fmt: skip

    def _event(
        self,
        *,
        do: Act,
        by: str = "",
        kind: Kind = "original",
        text: str = "",
        lang: str = "",
        of: str = "",
        root: str = "",
        quote: str = "",
        links: tuple[str, ...] = (),
        media: tuple[str, ...] = (),
        said: tuple[str, ...] = (),
        who: tuple[str, ...] = (),
    ) -> Event:
        at = self._start + timedelta(milliseconds=self._dice.randrange(int(BEAT.total_seconds() * 1_000)))
        return Event(
            do=do, at=at, crowd=self.opening.number, by=by, kind=kind, text=text, lang=lang,
            of=of, root=root, quote=quote, links=links, media=media, said=said, who=who,
        )  # fmt: skip

    def _in_order(self, events: list[Event]) -> list[Event]:
        """Return the beat's events by time, none before what the feed holds already, and the posts with their ids."""
        events.sort(key=lambda event: event.at)
        written: Counter[str] = Counter()
        for event in events:
            # A post of ours may lie inside this beat: the feed stays in order of time.
            if self.state.last_at < self._start + BEAT:
                event.at = max(event.at, self.state.last_at)
            if event.do == "post":
                written[event.by] += 1
                event.id = post_id(event.by, self.state.written[event.by] + written[event.by])
        return events


def _look_alike(hashtag: str) -> str:
    """Return a tag that begins like the campaign's and is another: #ShareASmile beside #shareASM."""
    return f"{hashtag[:1].upper()}{hashtag[1:-1]}{hashtag[-1:].lower()}ile"


def _poisson(dice: Random, rate: float) -> int:
    """Return how often something of this rate happens. The rate is small."""
    limit, product, number = math.exp(-rate), dice.random(), 0
    while product > limit:
        number += 1
        product *= dice.random()
    return number


def _untagged(text: str) -> str:
    """Return the text with its hashtags as plain words."""
    for span in reversed(hashtags(text)):
        text = text[: span.start] + span.text + text[span.end :]
    return text
