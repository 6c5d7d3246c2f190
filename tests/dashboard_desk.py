"""A desk to look at: one campaign with posts in every state and an invented audience.

It is made through the desk's own doors, and nobody in it exists. `empty_desk` has no campaign, `example_desk` is the
afternoon of a rehearsed day.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from urllib.error import URLError
from urllib.request import urlopen

from shareasm.desk import Desk, read_desk
from shareasm.model import (
    Author,
    Counts,
    Delivery,
    Hole,
    Kind,
    Limits,
    NotApplied,
    Receipt,
    Seen,
    Timings,
    digest_of,
)
from shareasm.plan.sign_off import approve
from shareasm.plan.sync import sync
from shareasm.store import Store, open_store
from shareasm.store.conversation import Candidate, Intake
from shareasm.store.workers import Worker
from tests.servers import ROOT

FOLDER = "asm-day"
ZONE = "Europe/London"
DAY = datetime(2026, 6, 24, 23, tzinfo=UTC)  # midnight in London, which is on summer time
NOW = DAY + timedelta(hours=13, minutes=47)
BOSS = "ana@desk.example"
WORKER = "worker-1"
TIMINGS = Timings()

ACCOUNTS = {"our-mastodon": "mastodon", "our-bluesky": "bluesky", "our-x": "x"}
HANDLES = {"mastodon": "desk@social.example", "bluesky": "desk.example", "x": "desk_example"}
LIMITS = {
    "mastodon": Limits(count="characters", text=500, link_weight=23),
    "bluesky": Limits(count="graphemes", text=300, bytes=3_000, cards=True),
    "x": Limits(count="weighted", text=280, link_weight=23),
}

DESK_TOML = """\
database = "sqlite:///desk.db"
organisation = "The example organisation"
time_zone = "Europe/London"

[accounts.our-mastodon]
network = "mastodon"
server = "https://social.example"
handle = "desk@social.example"

[accounts.our-bluesky]
network = "bluesky"
handle = "desk.example"

[accounts.our-x]
network = "x"
handle = "desk_example"
"""
PEOPLE = f"""
[people]
"{BOSS}" = "approver"
"ben@desk.example" = "author"
"vic@desk.example" = "viewer"
"""
CAMPAIGN_TOML = """\
name = "#shareASM 2026"
hashtags = ["shareASM"]
start = 2026-06-25T00:00:00
end = 2026-06-26T00:00:00
time_zone = "Europe/London"
languages = ["en", "fr", "es", "sw"]
"""

# message: local time, status, and a text per language. `---` begins the next part of a thread.
MESSAGES: dict[str, tuple[str, str, dict[str, str]]] = {
    "welcome": ("08:00", "ready", {
        "en": "Good morning and welcome to #shareASM day. Miners, neighbours, researchers, officials: where are you, "
              "and what is mined there?",
        "fr": "Bonjour et bienvenue à la journée #shareASM. Où êtes-vous, et qu'y extrait-on ?",
        "es": "Buenos días y bienvenidos a #shareASM. ¿Dónde están y qué se extrae allí?",
        "sw": "Habari za asubuhi, karibuni #shareASM. Uko wapi, na nini kinachimbwa huko?",
    }),
    "women": ("09:40", "ready", {
        "en": "Women dig, crush, wash and carry at the mines, and are the last to be counted. Who do you work beside? "
              "#shareASM",
        "fr": "Les femmes creusent, concassent, lavent et portent. Avec qui travaillez-vous ? #shareASM",
        "es": "Las mujeres cavan, muelen, lavan y cargan. ¿Con quién trabajan ustedes? #shareASM",
        "sw": "Wanawake huchimba, huponda na kubeba. Unafanya kazi na nani? #shareASM",
    }),
    "mercury": ("10:30", "ready", {
        "en": "Gold without mercury: what works where you are, and what does it cost? #shareASM",
        "es": "Oro sin mercurio: ¿qué funciona donde ustedes viven, y cuánto cuesta? #shareASM",
    }),
    "licence": ("11:10", "ready", {
        "en": "If you tried to get a licence: how long did it take, and what did it cost? #shareASM",
        "sw": "Uliyejaribu kupata leseni: ilichukua muda gani, na iligharimu nini? #shareASM",
    }),
    "live-answers": ("12:00", "ready", {
        "en": "Live answers, the next hour: ask anything about formalisation. #shareASM\n---\nWe answer in English, "
              "French, Spanish and Swahili.",
    }),
    "safety": ("12:30", "ready", {
        "en": "Timber, air, a second way out: what keeps your shaft safe? #shareASM",
        "fr": "Du bois, de l'air, une deuxième sortie : qu'est-ce qui rend votre puits sûr ? #shareASM",
    }),
    "round-up": ("13:00", "ready", {"en": "Half the day is over. Five voices that stayed with us. #shareASM"}),
    "tools": ("13:45", "ready", {
        "en": "A compressor, a pick, a phone: which tool changed your work? #shareASM",
        "sw": "Kompresa, sururu, simu: chombo gani kimebadilisha kazi yako? #shareASM",
    }),
    "countries": ("14:10", "ready", {
        "en": "Six countries, six laws. Whose law sees you? #shareASM",
        "fr": "Six pays, six lois. Quelle loi vous voit ? #shareASM",
        "es": "Seis países, seis leyes. ¿Qué ley los ve? #shareASM",
        "sw": "Nchi sita, sheria sita. Sheria gani inakuona? #shareASM",
    }),
    "ore": ("15:30", "ready", {
        "en": "What did you find today? Show us the ore in your hand. #shareASM",
        "es": "¿Qué encontraron hoy? Muéstrennos el mineral en la mano. #shareASM",
    }),
    "radio": ("16:40", "ready", {
        "en": "Voices from three radio stations, passed on with their consent. #shareASM",
        "sw": "Sauti kutoka redio tatu, zimepitishwa kwa ridhaa. #shareASM",
    }),
    "fair-gold": ("17:00", "ready", {
        "en": "Fair gold: who pays the premium, and who receives it? #shareASM",
        "fr": "L'or équitable : qui paie la prime, et qui la reçoit ? #shareASM",
        "es": "Oro justo: ¿quién paga la prima y quién la recibe? #shareASM",
    }),
    "who-counts": ("18:30", "draft", {"en": "Who counts the miners, and who is not counted? #shareASM"}),
    "numbers": ("19:00", "ready", {"en": "The numbers. " + "Each of them was somebody. " * 11 + "#shareASM"}),
    "thanks": ("20:30", "ready", {
        "en": "Thank you. We read every word and will publish what we learnt. #shareASM",
        "fr": "Merci. Nous avons tout lu et publierons ce que nous avons appris. #shareASM",
        "es": "Gracias. Leímos cada palabra y publicaremos lo aprendido. #shareASM",
        "sw": "Asanteni. Tumesoma kila neno na tutachapisha tulichojifunza. #shareASM",
    }),
    "old-link": ("21:00", "ready", {"en": "The paper of the day, once more. #shareASM"}),
    "rain": ("21:30", "ready", {"en": "Rain at the mine: a film. #shareASM"}),
}  # fmt: skip
NOT_APPROVED = {"radio", "fair-gold", "thanks"}

HOSTILE_NAME = "**Eve** ![n](https://evil.example/n.png) :streamlit:"
HOSTILE_TEXT = (
    "<script>alert(1)</script> ![x](https://evil.example/x.png) [link](javascript:alert(1)) $x$ https://evil.example "
    ":material/home: # shout #shareASM"
)


class DeskClock:
    """The time of the desk while it is made."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


@dataclass(frozen=True)
class Made:
    """A desk that was made: its settings and its folder."""

    desk: Desk
    folder: Path


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open the store of a desk that was made."""
    store = open_store(read_desk(folder).database)
    try:
        yield store
    finally:
        store.close()


def empty_desk(folder: Path) -> Made:
    """Make a desk without a campaign and without a worker."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "desk.toml").write_text(DESK_TOML)
    with opened(folder):
        return Made(read_desk(folder), folder)


def example_desk(
    folder: Path,
    *,
    people: bool = False,
    gap: bool = False,
    stopped: bool = False,
    alive: bool = True,
    hostile: bool = False,
    limits_read: bool = True,
    mentions: int = 1_100,
) -> Made:
    """Make the afternoon of a rehearsed day, with a post or delivery in every state."""
    made = empty_desk(folder)
    if people:
        (folder / "desk.toml").write_text(DESK_TOML + PEOPLE)
    _write_campaign(folder)
    desk = read_desk(folder)
    with opened(folder) as store:
        for account, network in ACCOUNTS.items() if limits_read else ():
            store.workers.keep_limits(account, LIMITS[network], DAY)
        _plan(store, desk)
        _publish(store)
        _collect(store, gap=gap, hostile=hostile, mentions=mentions)
        if stopped:
            store.switches.pause("all", "", by=BOSS, role="approver", reason="A wrong figure went out.", at=NOW)
        if alive:
            beat(store)
    return Made(desk, made.folder)


def beat(store: Store) -> None:
    """Let a worker live for as long as anybody looks: its last beat lies a day ahead of the world."""
    worker = Worker(WORKER, "example", 1, "then")
    store.workers.beat(worker, world=datetime.now(UTC) + timedelta(days=1), desk_now=NOW, rehearsal=True)


def _write_campaign(folder: Path) -> None:
    campaign = folder / "scheduled_posts" / FOLDER
    campaign.mkdir(parents=True)
    (campaign / "campaign.toml").write_text(CAMPAIGN_TOML)
    for message, (at, status, texts) in MESSAGES.items():
        head = f"id: {message}\npublish_at: 2026-06-25T{at}\nlang: [{', '.join(texts)}]\nstatus: {status}\n"
        body = "\n\n".join(f"## {language}\n{text}" for language, text in texts.items())
        (campaign / f"{at.replace(':', '-')}-{message}.md").write_text(f"---\n{head}---\n{body}\n")


def _plan(store: Store, desk: Desk) -> None:
    sync(store, desk, FOLDER, limits=LIMITS, now=DAY)
    wanted = [
        p.post.id for p in store.posts.all(FOLDER) if p.state == "in_review" and p.post.message not in NOT_APPROVED
    ]
    approve(store, desk, FOLDER, wanted, by=BOSS, limits=LIMITS, now=DAY)
    campaign_id = store.campaigns.id_of(FOLDER)
    store.posts.withdraw(campaign_id, "rain.en" if _has(store, "rain.en") else "rain", by=BOSS, role="approver",
                         why="no rights to the film", at=DAY)  # fmt: skip
    for delivery in store.queue.all(FOLDER):
        if delivery.post.startswith("old-link"):
            store.queue.cancel(delivery.id, by=BOSS, role="approver", why="said already", clock=DeskClock(DAY))


def _has(store: Store, post: str) -> bool:
    return any(one.post.id == post for one in store.posts.all(FOLDER))


def _publish(store: Store) -> None:
    """Live the day up to now: most goes out, some of it goes wrong in each of the ways there are."""
    clock = DeskClock(DAY)
    moments = sorted({delivery.due_at for delivery in store.queue.all(FOLDER) if delivery.due_at <= NOW})
    for due in moments:
        clock.at = due
        held = f"{due.astimezone(UTC):%H:%M}" == "12:00"  # 13:00 in London
        if held:
            store.switches.pause("account", "our-x", by=BOSS, role="approver", reason="Is the figure right?", at=due)
        store.queue.sort_out(list(ACCOUNTS), due)
        if held:
            store.switches.resume("account", "our-x", by=BOSS, role="approver", reason="It is right.", at=due)
        for account in ACCOUNTS:
            _lane(store, account, clock)
    clock.at = NOW
    store.queue.sort_out(list(ACCOUNTS), NOW)


def _lane(store: Store, account: str, clock: DeskClock) -> None:
    """Send what is due on one account, each delivery as its story wants."""
    for _ in range(20):
        _hold_back(store, account, clock)
        delivery = store.queue.claim(account, WORKER, clock, TIMINGS)
        if delivery is None:
            return
        story = _story(delivery)
        if story == "claimed":
            return
        if store.queue.intent(delivery, {"text": delivery.frozen.text}, WORKER, clock, TIMINGS) is None:
            continue
        if story == "sending":
            return
        _end(store, delivery, story, clock)


def _hold_back(store: Store, account: str, clock: DeskClock) -> None:
    """Let the French “safety” on Bluesky wait until its last moment has passed."""
    for delivery in store.queue.upcoming(account, clock.now()):
        if delivery.post.startswith("safety.fr") and account == "our-bluesky" and not delivery.tries:
            store.queue.close(
                account, delivery.not_after + timedelta(seconds=1), "Rate limit: 300 of 300 requests used"
            )
            late = delivery.not_after + timedelta(seconds=2)
            store.queue.sort_out([account], late)


def _story(delivery: Delivery) -> str:
    special = {
        ("licence.sw", "our-x"): "needs_human",
        ("live-answers", "our-x"): "failed",
        ("tools.en", "our-x"): "unconfirmed",
        ("tools.sw", "our-x"): "claimed",
        ("tools.en", "our-bluesky"): "sending",
        ("women.es", "our-mastodon"): "late",
    }
    key = (delivery.post.removesuffix(".en") if delivery.post.startswith("live") else delivery.post, delivery.account)
    return special.get(key, "published")


def _end(store: Store, delivery: Delivery, story: str, clock: DeskClock) -> None:
    queue = store.queue
    if story == "failed":
        words = "403: You are not permitted to perform this action."
        queue.refused(delivery, WORKER, NotApplied("content", words, http_status=403), clock, again_at=clock.now())
    elif story in {"unconfirmed", "needs_human"}:
        why = "no answer within 20 s"
        queue.unknown(
            delivery, WORKER, why, clock, settle=timedelta(0) if story == "needs_human" else timedelta(minutes=1)
        )
        for _ in range(2 if story == "needs_human" else 0):
            clock.at += TIMINGS.look_again
            looked = queue.to_look_up(delivery.account, WORKER, clock, TIMINGS)
            if looked is not None:
                queue.absent(looked, WORKER, clock, TIMINGS, keeps_key=None)
    else:
        at = clock.now() + timedelta(milliseconds=400 if story == "published" else 190_000)
        host = {"mastodon": "social.example", "bluesky": "bsky.example", "x": "x.example"}[delivery.network]
        url = f"https://{host}/desk/{digest_of(delivery.id)[:9]}"
        queue.confirm(delivery, WORKER, Receipt(f"id-{delivery.id}", url, at=at), clock)


# ── The audience ─────────────────────────────────────────────────────────────────────────────────────────────────────

FIRST = ("Amina", "Kofi", "Neema", "Rosa", "Luis", "Fatou", "Juma", "Hery", "Priya", "Grace", "Abdou", "Marta", "Selam",
         "Tiana", "Daniel", "Wanjiru", "Ousmane", "Lucía", "Esther", "Ravi")  # fmt: skip
LAST = ("of the washing plant", "Mwakasege", "Quispe", "Traoré", "Rakoto", "Boateng", "Tadesse", "at the cooperative",
        "Huamán", "Diallo", "from Geita", "Okello")  # fmt: skip
SAYINGS = {
    "en": ("We wash by hand and sell by the gram.", "Our licence took three years.",
           "The buyer sets the price, always.", "Two shafts closed after the rain.",
           "My daughter keeps the books of the cooperative.",
           "Nobody asked us before the law was written."),
    "sw": ("Tunachimba kwa mikono yetu.", "Leseni ilichukua miaka mitatu.", "Bei inapangwa na mnunuzi.",
           "Wanawake wapo migodini kila siku."),
    "es": ("Trabajamos sin mercurio desde 2019.", "El comprador pone el precio.", "Somos cuarenta socias."),
    "fr": ("Nous travaillons en famille.", "Le puits est sûr quand le bois est bon.", "On attend encore le permis."),
}  # fmt: skip
SHARES = {"mastodon": 0.28, "bluesky": 0.32, "x": 0.40}


def _collect(store: Store, *, gap: bool, hostile: bool, mentions: int) -> None:
    campaign_id = store.campaigns.id_of(FOLDER)
    random = Random(2026)  # noqa: S311 - an audience, not a secret
    servers = {"mastodon": "https://social.example", "bluesky": "wss://jetstream.example", "x": "https://x.example"}
    ours = frozenset(HANDLES.items())
    gone = (DAY + timedelta(hours=10, minutes=12), DAY + timedelta(hours=10, minutes=41))
    for network, server in servers.items():
        source = store.sources.open(campaign_id, network, server, "#shareASM")
        found = [*_own(store, network), *_audience(network, round(mentions * SHARES[network]), random)]
        if gap and network == "mastodon":
            found = [seen for seen in found if not gone[0] <= seen.posted_at < gone[1]]
        if hostile and network == "bluesky":
            found.append(_hostile())
        holes = [Hole(*gone, "social.example did not answer for 29 minutes")] if gap and network == "mastodon" else []
        page = [
            Candidate(seen, "shareASM" if seen.kind != "repost" else "", seen.language, "network") for seen in found
        ]
        until = NOW - timedelta(seconds=40)
        store.conversation.put(
            campaign_id, source, Intake(page, holes=holes, cursor="c", complete_until=until), at=until, own_handles=ours
        )


def _own(store: Store, network: str) -> list[Seen]:
    author = Author(f"our-{network}", HANDLES[network], "The example organisation", followers=8_400)
    return [
        Seen(network, d.receipt.remote_id, author, "original", d.sent_at, d.frozen.text, d.frozen.language,
             url=d.receipt.url, counts=Counts(12, 5, 3, 1), counts_at=NOW)
        for d in store.queue.all(FOLDER)
        if d.network == network and d.receipt is not None and d.sent_at is not None
    ]  # fmt: skip


def _audience(network: str, n: int, random: Random) -> list[Seen]:
    people = [
        Author(
            f"{network}-{i}",
            f"{FIRST[i % 20].lower()}{i}.example",
            f"{FIRST[(i + 7 * len(network)) % 20]} {LAST[i * (len(network) + 4) % 12]}",
            followers=None if i % 9 == 0 else int(random.paretovariate(0.9) * 90),
        )
        for i in range(70)
    ]
    found: list[Seen] = []
    for i in range(n):
        hour = random.choices(range(7, 14), weights=(2, 6, 8, 9, 7, 12, 8))[0]
        at = DAY + timedelta(hours=hour, seconds=random.randrange(3_600))
        if at >= NOW - timedelta(minutes=1):
            at -= timedelta(hours=2)
        language = random.choices(("en", "sw", "es", "fr", "unsure"), weights=(46, 22, 16, 12, 4))[0]
        kind: Kind = random.choices(("original", "reply", "repost"), weights=(50, 25, 25))[0]
        spoken = [seen for seen in found[-40:] if seen.kind != "repost"]
        if not spoken:
            kind = "original"
        of = random.choice(spoken).native_id if kind != "original" else ""
        words = random.choice(SAYINGS.get(language, SAYINGS["en"]))
        counts = Counts(int(random.expovariate(0.3)), int(random.expovariate(0.8)), int(random.expovariate(1)), 0)
        found.append(
            Seen(
                network,
                f"{network}-m{i}",
                people[min(69, int(random.paretovariate(1.1) * 3))],
                kind,
                at,
                f"{words} #shareASM",
                language,
                tags=("shareASM",),
                of_id=of,
                reply_to_id=of if kind == "reply" else "",
                url=f"https://{network}.example/{i}",
                counts=counts if kind != "repost" else Counts(),
                counts_at=NOW,
            )
        )
    return found


def _hostile() -> Seen:
    author = Author("eve", "eve.example", HOSTILE_NAME, followers=3)
    return Seen("bluesky", "eve-1", author, "original", NOW - timedelta(seconds=50), HOSTILE_TEXT, "en",
                tags=("shareASM",), url="javascript:alert(1)")  # fmt: skip


# ── The pages on a desk ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def dashboard(desk: Path) -> Iterator[str]:
    """Run the dashboard as its own process on this desk, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboards" / "app.py")]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    environment = {**os.environ, "SHAREASM_DESK": str(desk), "PYTHONPATH": str(ROOT)}
    with (desk / "dashboard.txt").open("wb") as words:
        process = subprocess.Popen(command, env=environment, stdout=words, stderr=subprocess.STDOUT)  # noqa: S603
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 60
        while not _is_up(address):
            assert process.poll() is None, (desk / "dashboard.txt").read_text()
            assert time.monotonic() < until, "The dashboard did not start."
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _is_up(address: str) -> bool:
    try:
        with urlopen(f"{address}/_stcore/health", timeout=2):  # noqa: S310 - our own process on loopback
            return True
    except (URLError, OSError):
        return False
