"""Source: the public tag timelines of one server, read upward again and again."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

from shareasm import text as texts
from shareasm.errors import ConfigError, LoginNeeded, NetworkError, RateLimited, Unreachable
from shareasm.model import Hole, Page, Query, Removed, Seen
from shareasm.networks import Setting
from shareasm.networks.mastodon import NETWORK
from shareasm.networks.mastodon.instance import Instance, Instances
from shareasm.networks.mastodon.line import Answer, Line, dict_of, id_of, list_of, text_of
from shareasm.networks.mastodon.look_up import made_at
from shareasm.networks.mastodon.seen import Reference, View, is_mention, quoted_post, reference_of, seen_post
from shareasm.networks.mastodon.walk import Known, Row, Trail, Trails, Walk, cursor_of, trails_of

POLL_SECONDS, YIELD_SECONDS = 15.0, 0.9
LIMIT, TAGS_AT_ONCE = 40, 4
PAGED_REQUESTS, PAGED_WINDOW_SECONDS = 180, 900.0
"""60 % of what a Mastodon server grants: 300 paged requests in a quarter of an hour."""
SERVER_LAG = timedelta(seconds=2)  # Takahe shows a post one to two seconds late
REFERENCES_KEPT, CHECKS_PER_ROUND, PAGES_HELD = 10_000, 40, 50

T = TypeVar("T")
Steps = Generator[Page, None, T]
"""Something that takes time: it yields an empty page while it waits, and returns what it got."""


class MastodonSource:
    """One server. What it does not know it cannot show: several servers together are one network's coverage."""

    network: str = NETWORK

    def __init__(self, setting: Setting, *, call_seconds: float = 20.0, paged_requests: int = PAGED_REQUESTS) -> None:
        self._setting, self._clock, self._call_seconds = setting, setting.clock, call_seconds
        self.server: str = setting.server
        self._line = Line(setting)
        self._instances = Instances(setting, self._line)
        wished = (setting.options or {}).get("poll_seconds")
        self._poll_seconds = float(wished) if isinstance(wished, int | float) and wished > 0 else POLL_SECONDS
        self._paged: deque[float] = deque(maxlen=paged_requests)
        self._not_before: datetime | None = None
        self._references: OrderedDict[str, Reference] = OrderedDict()

    def pages(self, query: Query, cursor: str | None, *, live: bool) -> Iterator[Page]:
        """Yield what the server shows under the hashtags since the cursor, or since the campaign began.

        Each round passes over the last two minutes again, for what arrives late. Raise LoginNeeded where the server
        shows hashtags to its members alone, RateLimited, Refused or Unreachable.
        """
        trails = trails_of(cursor)
        # Requests are made beside us: a slow server must not keep the caller from stopping.
        hands = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mastodon")
        try:
            while True:
                yield from self._wait_for_the_server()
                yield from _Round(self, hands, query, trails).pages()
                if not live:
                    return
                yield from pause(self._poll_seconds)
        finally:
            hands.shutdown(wait=False, cancel_futures=True)

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def about(self) -> Instance | None:
        """Return what the server says about itself, None where it says nothing that can be read."""
        return self._instances.read(self._end(), token=self._token())

    def view(self) -> View:
        """Return from where the posts are seen now."""
        known = self._instances.known
        return View(known.domain if known else "", self._line.host, self._clock.now())

    def now(self) -> datetime:
        """Return this moment."""
        return self._clock.now()

    def timeline(self, tags: Sequence[str], **where: str) -> list[Row]:
        """Return one page of the timeline of these hashtags, newest first. Raise NetworkError."""
        params: dict[str, Any] = {"limit": LIMIT, **where}
        if tags[1:]:
            params["any[]"] = list(tags[1:])
        if where:
            self._paged.append(time.monotonic())
        path = f"/api/v1/timelines/tag/{quote(tags[0], safe='')}"
        answer = self._line.get(self._end(), path, params, token=self._token())
        self._hold(answer)
        if not isinstance(answer.json, list):
            raise self._line.unreadable(answer)
        return [dict_of(row) for row in answer.json]

    def status(self, local: str) -> Answer:
        """Return one post by its id here. Raise Unreachable."""
        return self._line.get(self._end(), f"/api/v1/statuses/{local}", token=self._token())

    def wait_for_budget(self) -> Iterator[Page]:
        """Yield empty pages until another paged request is ours to make."""
        if len(self._paged) == self._paged.maxlen:
            yield from pause(self._paged[0] + PAGED_WINDOW_SECONDS - time.monotonic())

    def _wait_for_the_server(self) -> Iterator[Page]:
        """Yield empty pages until the moment that a server named when it turned us away."""
        while self._not_before is not None and self._clock.now() < self._not_before:
            yield from pause(YIELD_SECONDS)
        self._not_before = None

    def _hold(self, answer: Answer) -> None:
        if answer.status in (401, 403, 422) and not self._token():
            # 422 “This method requires an authenticated user” is how some versions say it.
            happened = f"{self._line.host} shows hashtags only to its members: {answer.words}."
            what_to_do = f"{self._line.where_the_token_belongs()} Or listen to another server."
            raise LoginNeeded(happened, what_to_do, network=NETWORK, account=self._setting.name)
        try:
            self._line.hold(answer)
        except RateLimited as limited:
            self._not_before = limited.until
            raise

    def _end(self) -> float:
        return time.monotonic() + self._call_seconds

    def _token(self) -> str:
        try:
            return self._line.token()
        except ConfigError:
            return ""  # anonymous

    # ── What a post answers ──────────────────────────────────────────────────────────────────────────────────────────

    def remember(self, rows: Iterable[Row], *, root: str = "") -> None:
        """Keep the posts by their ids here, so that an answer to one finds its `uri`. Oldest first.

        An answer whose own thread nobody told is kept only where its `root` is given.
        """
        for row in rows:
            local, uri, parent = reference_of(row)
            its_root = self._references.get(parent, Reference("", root)).root if parent else uri
            if local and uri and its_root:
                self._references[local] = Reference(uri, its_root)
        while len(self._references) > REFERENCES_KEPT:
            self._references.popitem(last=False)

    def parent_of(self, row: Row, end: float) -> tuple[Reference | None, list[Row]]:
        """Return what the post answers, and the posts of its thread that we had to ask for. Never raises."""
        local, _, parent = reference_of(row)
        if not parent:
            return None, []
        ancestors: list[Row] = []
        if parent not in self._references and time.monotonic() < end:
            ancestors = self._ancestors(local, end)
            self.remember(ancestors, root=next((text_of(row.get("uri")) for row in ancestors), ""))
        return self._references.get(parent), ancestors

    def _ancestors(self, local: str, end: float) -> list[Row]:
        try:
            answer = self._line.get(end, f"/api/v1/statuses/{local}/context", token=self._token())
        except Unreachable:
            return []
        return [dict_of(row) for row in list_of(answer.object.get("ancestors"))] if answer.is_fine else []


class _Round:
    """One round over all hashtags of a campaign."""

    def __init__(self, source: MastodonSource, hands: ThreadPoolExecutor, query: Query, trails: Trails) -> None:
        self._source, self._hands, self._query, self._trails = source, hands, query, trails
        self._begun = source.now()

    def pages(self) -> Iterator[Page]:
        about = yield from self._patiently(self._source.about)
        for tags in groups_of(self._query.hashtags, at_once=TAGS_AT_ONCE if about and about.joins_tags else 1):
            yield from self._climb(tags)
        yield Page(cursor=cursor_of(self._trails), complete_until=self._begun - SERVER_LAG)

    def _climb(self, tags: tuple[str, ...]) -> Iterator[Page]:
        """Read one timeline from two minutes before its end to its end, without a hole, or with a Hole."""
        name = "|".join(tags)
        walk = Walk(self._trails.get(name, Trail()), self._begun)
        top = yield from self._fetch(tags)
        above = walk.above_anchor(top)
        if above is not None:  # the newest page, which costs none of the paged requests, holds all that there is
            if above:
                yield (yield from self._keep(name, walk, above))
        elif not walk.position:
            yield from self._descend(tags, walk, top, self._is_beginning)
        if not (yield from self._ascend(tags, walk, top)):
            yield from self._descend(tags, walk, top, lambda rows: walk.meets(rows) or self._is_beginning(rows))
            if not (yield from self._ascend(tags, walk, top)):
                yield Page(holes=(self._hole(f"{self._source.server} did not show all that lies between two pages."),))
        yield from self._look_for_the_vanished(name, walk)

    def _ascend(self, tags: tuple[str, ...], walk: Walk, top: Sequence[Row]) -> Steps[bool]:
        """Read upward by `min_id` (`since_id` would skip) until the newest page is met; return whether it was.

        It is not where a page comes back empty although more follows (all its rows were filtered away), or where the
        server does not heed `min_id` and gives its newest page again.
        """
        while not walk.has_met(top[:1]):
            rows = yield from self._fetch(tags, min_id=walk.position)
            if not any(walk.is_new(row) for row in rows) or (len(rows) >= LIMIT and ids_of(rows) == ids_of(top)):
                return False
            yield (yield from self._keep("|".join(tags), walk, rows))
        return True

    def _descend(
        self, tags: tuple[str, ...], walk: Walk, top: list[Row], is_low: Callable[[Sequence[Row]], bool]
    ) -> Iterator[Page]:
        """Walk down from the newest page until it is low enough, then yield what was met, oldest first.

        Of a long way only the lowest pages are held; from there the way leads up again.
        """
        pages = deque([top], maxlen=PAGES_HELD)
        met = ids_of(top)
        while pages[-1] and not is_low(pages[-1]):
            rows = yield from self._fetch(tags, max_id=last_id(pages[-1]))
            if rows and not ids_of(rows) - met:
                yield Page(holes=(self._hole(f"{self._source.server} shows its newest posts alone."),))
            if not ids_of(rows) - met:
                break
            met |= ids_of(rows)
            pages.append(rows)
        for rows in reversed(pages):
            above = walk.above_anchor(rows)
            yield (yield from self._keep("|".join(tags), walk, rows if above is None else above))

    def _is_beginning(self, rows: Sequence[Row]) -> bool:
        """Return True where the campaign had not begun. All of them: one old post may just have arrived late."""
        return all((made := made_at(row)) is not None and made < self._query.since for row in rows)

    def _fetch(self, tags: tuple[str, ...], **where: str) -> Steps[list[Row]]:
        if where:
            yield from self._source.wait_for_budget()
        return (yield from self._patiently(lambda: self._source.timeline(tags, **where)))

    def _keep(self, name: str, walk: Walk, rows: Sequence[Row]) -> Steps[Page]:
        """Return the page of what is new in these rows, with the cursor behind it."""
        oldest_first = list(reversed(rows))
        new = walk.take([row for row in oldest_first if id_of(row.get("id"))])
        unreadable = [row for row in new if not text_of(row.get("uri"))] + [r for r in rows if not id_of(r.get("id"))]
        fresh = [row for row in new if text_of(row.get("uri")) and is_mention(row) and not self._is_older(row)]
        self._source.remember(oldest_first)
        seen, context = yield from self._patiently(lambda: self._rows(fresh))
        self._trails[name] = walk.trail()
        holes = [self._hole("A post could not be read.")] if unreadable else []
        return Page(seen=seen, context=context, holes=holes, cursor=cursor_of(self._trails))

    def _rows(self, fresh: Sequence[Row]) -> tuple[list[Seen], list[Seen]]:
        view, end = self._source.view(), time.monotonic() + YIELD_SECONDS * 20
        seen: list[Seen] = []
        context: dict[str, Seen] = {}
        shown = {text_of(row.get("uri")) for row in fresh}
        for row in fresh:
            parent, ancestors = self._source.parent_of(row, end)
            seen.append(seen_post(row, view, parent))
            for other in (*ancestors, quoted_post(row)):
                uri = text_of(other.get("uri"))
                if uri and uri not in shown and is_mention(other):
                    context[uri] = seen_post(other, view, self._source.parent_of(other, 0.0)[0])
        return seen, list(context.values())

    def _is_older(self, row: Row) -> bool:
        made = made_at(row)
        return made is not None and made < self._query.since

    # ── What is no longer there ──────────────────────────────────────────────────────────────────────────────────────

    def _look_for_the_vanished(self, name: str, walk: Walk) -> Iterator[Page]:
        removed: list[Removed] = []
        changed: list[Row] = []
        for one in walk.vanished()[:CHECKS_PER_ROUND]:
            answer = yield from self._patiently(lambda one=one: self._ask_for(one))
            if answer is not None and answer.status in (404, 410):
                removed.append(Removed(NETWORK, one.uri))
                walk.forget(one)
            elif answer is not None and answer.is_fine and text_of(answer.object.get("edited_at")) != one.edited:
                changed += [answer.object] if is_mention(answer.object) else []  # an edit took the hashtag away
                walk.forget(one)
            else:
                walk.forget(one, at_last=True)
        self._trails[name] = walk.trail()
        if removed or changed:
            seen, context = yield from self._patiently(lambda: self._rows(changed))
            yield Page(seen=seen, context=context, removed=removed, cursor=cursor_of(self._trails))

    def _ask_for(self, one: Known) -> Answer | None:
        try:
            return self._source.status(one.id)
        except NetworkError:
            return None

    # ── Patience ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _patiently(self, job: Callable[[], T]) -> Steps[T]:
        """Do the job beside us and return what it gave; yield an empty page whenever it takes long."""
        work = self._hands.submit(job)
        while True:
            try:
                return work.result(timeout=YIELD_SECONDS)
            except TimeoutError:
                if work.done():
                    raise
                yield Page()

    def _hole(self, why: str) -> Hole:
        return Hole(self._query.since, self._begun, why)


def ids_of(rows: Iterable[Row]) -> set[str]:
    """Return the ids of these posts, as far as they have one."""
    return {local for row in rows if (local := id_of(row.get("id")))}


def last_id(rows: Sequence[Row]) -> str:
    """Return the id of the last post that has one."""
    return next((local for row in reversed(rows) if (local := id_of(row.get("id")))), "0")


def groups_of(hashtags: Iterable[str], *, at_once: int) -> list[tuple[str, ...]]:
    """Return the hashtags as they are asked for: folded, each once, so many in one request. Pure.

    A broken one such as `#A&SM` is asked for as what every network makes of it, `#a`; the campaign's rule sorts out.
    """
    folded = (texts.hashtags(f"#{tag.lstrip('#＃')}") for tag in hashtags)
    tags = list(dict.fromkeys(texts.fold_tag(spans[0].text) for spans in folded if spans))
    return [tuple(tags[start : start + at_once]) for start in range(0, len(tags), at_once)]


def pause(seconds: float) -> Iterator[Page]:
    """Yield an empty page at least once a second until the time is over."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(YIELD_SECONDS, left))
        yield Page()
