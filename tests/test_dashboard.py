"""The pages, run without a browser: every view over every kind of desk, and what each person may do there."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboards import acts, desk_state, states, times, ui
from dashboards.desk_state import Here
from shareasm.desk import read_desk
from shareasm.errors import NotAllowed, PlanError
from shareasm.measure import measure
from shareasm.model import ASKS_FOR_A_PERSON, DeliveryState, PostState
from shareasm.store import Store
from shareasm.store.posts import PlannedPost
from tests.dashboard_desk import BOSS, FOLDER, HOSTILE_NAME, HOSTILE_TEXT, NOW, empty_desk, example_desk, opened
from tests.servers import ROOT

APP = ROOT / "dashboards" / "app.py"
VIEWS = sorted(path.name for path in (ROOT / "dashboards" / "views").glob("*.py"))
_MADE = TemporaryDirectory()


def example(folder: Path, **options: Any) -> None:
    """Put the afternoon of a rehearsed day into this folder: made once for each kind, then copied."""
    made = Path(_MADE.name) / ("-".join(f"{name}={value}" for name, value in sorted(options.items())) or "plain")
    if not made.exists():
        example_desk(made, **{"mentions": 120, **options})
    shutil.copytree(made, folder)


DESKS: dict[str, Callable[[Path], object]] = {
    "empty": empty_desk,
    "example day": example,
    "gap open": lambda folder: example(folder, gap=True),
    "stopped": lambda folder: example(folder, stopped=True),
    "no worker": lambda folder: example(folder, alive=False),
    "with people": lambda folder: example(folder, people=True),
}
VIEWER = "vic@desk.example"
AUTHOR = "ben@desk.example"


@pytest.fixture(autouse=True)
def kept_engines() -> Iterator[None]:
    """Close every engine that a test's pages opened."""
    yield
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a desk, which the pages will open."""
    monkeypatch.setenv("SHAREASM_DESK", str(tmp_path / "desk"))
    return tmp_path / "desk"


def opened_page(view: str = "today.py", *, person: str = "", **query: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    if person:
        app.session_state["person"] = person
    for key, value in query.items():
        app.query_params[key] = value
    return app.run() if view == "today.py" else app.switch_page(f"views/{view}").run()


def all_words(app: AppTest) -> str:
    """Everything that a page says in Markdown or as text, without the signs that escape others."""
    kinds = (app.title, app.header, app.markdown, app.caption, app.text, app.warning, app.error, app.toast)
    return "\n".join(str(element.value) for some in kinds for element in some).replace("\\", "")


def texts(app: AppTest) -> list[str]:
    return [str(element.value) for element in app.text]


def button(app: AppTest, key: str) -> Any:
    return app.button(key=key)


def here_of(store: Store, folder: Path) -> Here:
    return Here(read_desk(folder), store, store.workers.pulse(desk_state.utc_now()), NOW, rehearsal=True)


# ── Every view over every desk ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", DESKS)
def test_every_view_shows_every_desk(view: str, kind: str, folder: Path) -> None:
    DESKS[kind](folder)
    app = opened_page(view)
    assert not app.exception
    assert app.title, "every page has one title"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("person", [VIEWER, AUTHOR, BOSS, "nobody@desk.example"])
def test_every_view_shows_itself_to_every_role(view: str, person: str, folder: Path) -> None:
    example(folder, people=True)
    assert not opened_page(view, person=person).exception


@pytest.mark.parametrize("view", VIEWS)
def test_a_rehearsal_is_named_on_every_page(view: str, folder: Path) -> None:
    example(folder)
    assert "Rehearsal: the audience is simulated" in all_words(opened_page(view))


@pytest.mark.parametrize("view", VIEWS)
def test_a_stop_stands_on_every_page_with_who_when_and_why(view: str, folder: Path) -> None:
    example(folder, stopped=True)
    app = opened_page(view)
    assert f"{BOSS}, 13:47 (Europe/London): A wrong figure went out." in texts(app)
    assert button(app, "stop").label == "Stop"


def test_a_new_desk_says_how_to_begin(folder: Path) -> None:
    empty_desk(folder)
    assert "shareasm plan sync" in all_words(opened_page())


def test_a_desk_without_its_file_says_what_to_do_and_offers_another_try(folder: Path) -> None:
    app = opened_page()
    assert not app.exception
    assert any("There is no desk.toml" in words for words in texts(app))
    assert any("shareasm init" in words for words in texts(app))
    assert [one.label for one in app.button] == ["Try again"]


def test_one_failing_part_leaves_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example(folder)

    def broken(*_: object, **__: object) -> None:
        raise PlanError("The newest mentions cannot be read.", "Look at the disk.")

    monkeypatch.setattr("shareasm.store.conversation.Conversation.newest", broken)
    app = opened_page()
    assert not app.exception
    assert "The newest mentions cannot be read." in texts(app)
    assert "Look at the disk." in texts(app)
    assert button(app, "retry_latest").label == "Try again"
    assert len(app.metric) == 4


# ── Today ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_headline_numbers_are_those_of_the_measures(folder: Path) -> None:
    example(folder)
    with opened(folder) as store:
        results = {one.name: one for one in measure(store, FOLDER, now=NOW)}
    shown = {metric.label: metric.value for metric in opened_page().metric}
    could = results["reach"].value["could_have_seen"]["estimate"][1]
    assert shown == {
        "Mentions": f"{results['mentions'].value['total']:,}",
        "Contributors": f"{results['contributors'].value['total']:,}",
        "Engagements": f"{results['engagements'].value['total']:,}",
        "Could have seen": f"≤ {could:,}",
    }


def test_each_headline_number_carries_its_definition_and_its_own_coverage(folder: Path) -> None:
    example(folder)
    with opened(folder) as store:
        results = {one.name: one for one in measure(store, FOLDER, now=NOW)}
    metrics = {metric.label: metric for metric in opened_page().metric}
    assert metrics["Mentions"].proto.help == ui.literal(results["mentions"].definition)
    engagements = results["engagements"].value
    assert metrics["Engagements"].delta == f"{engagements['posts']:,} of {engagements['of_posts']:,} posts"


def test_over_an_open_gap_a_number_is_a_lower_bound_and_the_gap_is_named(folder: Path) -> None:
    example(folder, gap=True)
    with opened(folder) as store:
        coverage = measure(store, FOLDER, ["mentions"], now=NOW)[0].coverage
    app = opened_page()
    assert app.metric[0].value.startswith("≥ ")
    assert coverage.is_open
    assert any(ui.tame(coverage.words.split(" · ")[0]) in str(caption.value) for caption in app.caption)
    assert any("10:12–10:41, social.example did not answer for 29 minutes" in words for words in texts(app))


def test_what_nobody_collected_is_a_dash_and_not_zero(folder: Path) -> None:
    example(folder, mentions=0)
    with opened(folder) as store:
        campaign = store.campaigns.get(FOLDER)
    other = folder.parent / "other"
    made = empty_desk(other)
    with opened(other) as store:
        store.campaigns.save(campaign, NOW)
    assert made.folder == other
    (folder / "desk.db").unlink()
    (other / "desk.db").rename(folder / "desk.db")
    assert [metric.value for metric in opened_page().metric] == ["–", "–", "–", "–"]


def test_a_dead_worker_comes_first_and_names_its_remedy(folder: Path) -> None:
    example(folder, alive=False)
    words = texts(opened_page())
    first = next(one for one in words if "worker" in one or "not found" in one)
    assert first.startswith("No worker runs")
    assert "Start it with: shareasm up" in words


def test_what_needs_a_person_is_named_with_its_reason(folder: Path) -> None:
    example(folder)
    words = "\n".join(texts(opened_page()))
    assert "live-answers.en of 12:00 on our-x: 403: You are not permitted to perform this action." in words
    with opened(folder) as store:
        reason = store.queue.get(f"{FOLDER}/round-up.en/our-x/1").reason
    assert f"round-up.en of 13:00 on our-x: {reason}" in words


def test_a_stopped_source_is_a_matter_with_its_reason(folder: Path) -> None:
    example(folder)
    with opened(folder) as store:
        source = next(one for one in store.sources.states(FOLDER) if one.network == "x")
        store.sources.failed(source.id, NOW, "402: no credits left", stopped=True)
    words = texts(opened_page())
    assert any(one.startswith("X https://x.example stopped: 402: no credits left") for one in words)


def test_the_period_comes_from_the_address(folder: Path) -> None:
    example(folder)
    assert "per minute" in all_words(opened_page(period="Hour"))
    assert "per 15 minutes" in all_words(opened_page(period="Day"))


def test_a_hostile_mention_is_shown_as_it_is(folder: Path) -> None:
    example(folder, hostile=True)
    app = opened_page()
    assert HOSTILE_TEXT in texts(app)
    assert HOSTILE_NAME in texts(app)
    markdown = "\n".join(str(one.value) for some in (app.markdown, app.caption, app.title, app.header) for one in some)
    assert "evil" not in markdown
    assert "<script>" not in markdown


def test_next_out_names_time_state_text_and_accounts(folder: Path) -> None:
    example(folder)
    app = opened_page()
    assert "Six countries, six laws. Whose law sees you? #shareASM" in texts(app)
    assert "**14:10** &nbsp;:small[:gray[in 23 min · 13:10 UTC]]" in all_words(app)
    assert "English, Spanish, French, Swahili · our-mastodon · our-bluesky · our-x" in all_words(app)


# ── Plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_plan_lists_what_needs_a_word_what_needs_approval_and_what_is_out(folder: Path) -> None:
    example(folder)
    headers = [str(one.value) for one in opened_page("plan.py").header]
    assert headers[0] == "6 deliveries need your word"
    assert headers[1] == "9 posts need approval"
    assert "Every message in every language" in headers
    assert "2 problems in the plan" in headers


def test_the_grid_shows_every_message_in_every_language(folder: Path) -> None:
    example(folder)
    grid = opened_page("plan.py").table[0].value
    assert list(grid.columns) == ["Time", "Message", "English", "French", "Spanish", "Swahili"]
    rows = grid.set_index("Message")
    assert "Out" in rows.loc["welcome", "French"]
    assert "missing" in rows.loc["mercury", "French"]
    assert "Problem" in rows.loc["numbers", "English"]
    assert "Needs approval" in rows.loc["thanks", "Swahili"]


def test_a_problem_names_file_and_line(folder: Path) -> None:
    example(folder)
    problems = opened_page("plan.py").dataframe[-1].value
    assert f"scheduled_posts/{FOLDER}/19-00-numbers.md:8" in set(problems["Where"])
    assert "330 of 280 for X." in set(problems["What"]) or any("of 280" in what for what in problems["What"])


def test_published_posts_link_to_the_real_post_by_https_alone(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py", show="Out")
    assert any("](https://social.example/desk/" in str(one.value) for one in app.markdown)
    assert not ui.is_safe_link("javascript:alert(1)")
    assert not ui.is_safe_link("http://social.example/1")
    assert not ui.is_safe_link("https://me:secret@social.example/1")


def test_a_stranger_to_the_page_is_asked_for_a_name_before_anything_is_approved(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py")
    button(app, "approve_thanks.en").click().run()
    assert app.text_input(key="approve_by").label == "Your name"
    assert button(app, "approve_now").disabled
    assert _state(folder, "thanks.en") is PostState.IN_REVIEW


def test_who_is_known_approves_with_one_click(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py", person="Ana")
    button(app, "approve_thanks.en").click().run()
    assert _state(folder, "thanks.en") is PostState.APPROVED
    assert "Approved 1 post: 3 deliveries will go out" in all_words(app)


def test_selected_posts_are_approved_together(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py", person="Ana")
    app.checkbox(key="pick_radio.en").check()
    app.checkbox(key="pick_radio.sw").check().run()
    button(app, "approve_picked").click().run()
    assert [_state(folder, one) for one in ("radio.en", "radio.sw", "thanks.en")] == [
        PostState.APPROVED, PostState.APPROVED, PostState.IN_REVIEW,
    ]  # fmt: skip
    assert "Approved 2 posts: 6 deliveries will go out" in all_words(app)


def test_all_ready_posts_are_approved_only_after_one_more_question(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py", person="Ana")
    button(app, "approve_all").click().run()
    assert "Approve 9 posts of #shareASM 2026?" in texts(app)
    assert _state(folder, "thanks.en") is PostState.IN_REVIEW


def test_a_decision_is_asked_for_before_it_is_taken(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py", person="Ana")
    key = f"{FOLDER}/licence.sw/our-x/1"
    button(app, f"send_{key}").click().run()
    assert "Send it to X our-x now?" in texts(app)
    assert "if the post is there after all, sending it again doubles it" in all_words(app)
    with opened(folder) as store:
        assert store.queue.get(key).state is DeliveryState.NEEDS_HUMAN


def test_a_failed_delivery_can_only_be_let_go(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py", person="Ana")
    keys = {one.key for one in app.button}
    assert f"send_{FOLDER}/live-answers.en/our-x/1" not in keys
    assert f"cancel_{FOLDER}/live-answers.en/our-x/1" in keys


def test_what_was_tried_is_shown_as_evidence(folder: Path) -> None:
    example(folder)
    app = opened_page("plan.py")
    button(app, f"tried_{FOLDER}/licence.sw/our-x/1").click().run()
    assert list(app.dataframe[-1].value["Step"]) == ["intent", "unknown", "absent", "absent"]


def test_resuming_asks_again_and_says_what_stays(folder: Path) -> None:
    example(folder, stopped=True)
    app = opened_page()
    with opened(folder) as store:
        (switch,) = store.switches.on()
    button(app, f"resume_{switch.id}").click().run()
    assert "1 delivery fell due while something was paused." in all_words(app)
    assert button(app, "resume_now").disabled, "nobody has said who they are"
    with opened(folder) as store:
        assert store.switches.on() == [switch]


def test_an_act_is_written_down_with_name_and_reason(folder: Path) -> None:
    example(folder, mentions=0)
    key = f"{FOLDER}/round-up.en/our-x/1"
    with opened(folder) as store:
        here, campaign = here_of(store, folder), store.campaigns.get(FOLDER)
        acts.send_now(here, campaign, store.queue.get(key), by="Ana", why="It is still true")
        sent = store.queue.get(key)
        acts.pause(here, "language", "fr", by="Ana", reason="")
        (switch,) = store.switches.on()
        acts.resume(here, switch, by="Ben", reason="checked")
        acts.cancel(here, sent, by="Ana", why="no, it is not")
        cancelled = store.queue.get(key)
        assert store.switches.on() == []
    assert (sent.state, sent.reason) == (DeliveryState.SCHEDULED, "Ana: It is still true")
    assert sent.not_after == NOW + campaign.not_after
    assert (switch.scope, switch.key, switch.by, switch.reason) == ("language", "fr", "Ana", "no reason given")
    assert (cancelled.state, cancelled.reason) == (DeliveryState.CANCELLED, "Ana: no, it is not")


# ── Who may not, cannot ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_viewer_finds_no_open_button(folder: Path) -> None:
    example(folder, people=True, stopped=True)
    app = opened_page("plan.py", person=VIEWER)
    assert button(app, "stop").disabled
    assert button(app, "approve_all").disabled
    assert button(app, "approve_thanks.en").disabled
    assert button(app, f"send_{FOLDER}/round-up.en/our-x/1").disabled
    assert not [one for one in app.button if one.label == "Resume"]


def test_an_author_may_stop_and_not_approve(folder: Path) -> None:
    example(folder, people=True)
    app = opened_page("plan.py", person=AUTHOR)
    assert not button(app, "stop").disabled
    assert button(app, "approve_all").disabled


@pytest.mark.parametrize("person", [VIEWER, AUTHOR, "nobody@desk.example", ""])
def test_who_may_not_write_cannot_do_so_past_the_page_either(person: str, folder: Path) -> None:
    example(folder, people=True, stopped=True)
    with opened(folder) as store:
        here, campaign = here_of(store, folder), store.campaigns.get(FOLDER)
        delivery = store.queue.get(f"{FOLDER}/round-up.en/our-x/1")
        (switch,) = store.switches.on()
        with pytest.raises(NotAllowed):
            acts.approve(here, campaign, ["thanks.en"], by=person)
        with pytest.raises(NotAllowed):
            acts.resume(here, switch, by=person, reason="")
        with pytest.raises(NotAllowed):
            acts.send_now(here, campaign, delivery, by=person, why="")
        with pytest.raises(NotAllowed):
            acts.cancel(here, delivery, by=person, why="")
        if person != AUTHOR:
            with pytest.raises(NotAllowed):
                acts.pause(here, "network", "x", by=person, reason="")
        assert store.switches.on() == [switch]
        assert store.queue.get(delivery.id) == delivery
    assert _state(folder, "thanks.en") is PostState.IN_REVIEW


def test_approving_before_the_worker_has_read_the_limits_says_so(folder: Path) -> None:
    example(folder, mentions=0, limits_read=False)
    with opened(folder) as store, pytest.raises(PlanError, match="bluesky, mastodon, x"):
        acts.approve(here_of(store, folder), store.campaigns.get(FOLDER), ["thanks.fr"], by="Ana")


def test_with_a_login_nobody_sees_anything_before_it(folder: Path) -> None:
    example(folder, people=True)
    toml = (folder / "desk.toml").read_text()
    oidc = 'client_id = "desk"\nserver_metadata_url = "https://id.example/"\nredirect_uri = "https://desk.example/"\n'
    (folder / "desk.toml").write_text(f'{toml}\n[dashboard]\nlogin = "oidc"\n[dashboard.oidc]\n{oidc}')
    app = opened_page(person=BOSS)
    assert not app.exception
    assert [one.label for one in app.button] == ["Sign in"]
    assert not app.metric


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_state_has_its_word_icon_and_colour() -> None:
    shown = {**states.POST_STATES, **states.DELIVERY_STATES}
    assert set(states.POST_STATES) == set(PostState)
    assert set(states.DELIVERY_STATES) == set(DeliveryState)
    assert all(one.word and one.icon.startswith(":material/") for one in shown.values())
    colours = {"asks for a person": "red", "held": "yellow", "going": "gray", "out": "green", "closed": "gray",
               "will go out": "green"}  # fmt: skip
    assert all(one.colour == colours.get(one.kind, one.colour) for one in shown.values())
    assert {state for state, one in states.DELIVERY_STATES.items() if one.kind == "asks for a person"} == set(
        ASKS_FOR_A_PERSON
    )


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ([DeliveryState.SCHEDULED], "Approved"),
        ([DeliveryState.PUBLISHED, DeliveryState.SCHEDULED], "Partly out"),
        ([DeliveryState.PUBLISHED, DeliveryState.CANCELLED], "Out"),
        ([DeliveryState.PUBLISHED, DeliveryState.MISSED], "Missed"),
        ([DeliveryState.UNCONFIRMED, DeliveryState.NEEDS_HUMAN], "Needs you"),
        ([DeliveryState.CANCELLED], "Cancelled"),
    ],
)
def test_a_post_is_shown_by_its_most_pressing_delivery(found: list[DeliveryState], word: str, folder: Path) -> None:
    example(folder, mentions=0)
    with opened(folder) as store:
        planned = next(one for one in store.posts.all(FOLDER) if one.state is PostState.APPROVED)
        delivery = store.queue.all(FOLDER)[0]
    deliveries = [replace(delivery, state=state) for state in found]
    assert states.post_shown(planned, deliveries).word == word


@pytest.mark.parametrize(
    ("minutes", "alive", "colour"), [(1, True, "gray"), (5, True, "yellow"), (20, True, "red"), (1, False, "red")]
)
def test_collecting_turns_amber_then_red(minutes: int, alive: bool, colour: str, folder: Path) -> None:
    example(folder, mentions=0)
    at = NOW - timedelta(minutes=minutes)
    with opened(folder) as store:
        here = replace(here_of(store, folder), rehearsal=False)
        here = replace(here, pulse=replace(here.pulse, alive=alive))
        sources = [replace(one, last_ok_at=at) for one in store.sources.states(FOLDER)]
    fresh = ui.freshness(sources, here, "Europe/London")
    assert (fresh.words, fresh.colour) == (f"Collected {minutes} min ago", colour)


def test_long_lists_are_paged_and_the_page_stands_in_the_address(folder: Path) -> None:
    example(folder)
    first, second = opened_page(), opened_page(who="2")
    assert "1–12 of" in all_words(first)
    assert "13–24 of" in all_words(second)
    assert list(first.dataframe[0].value["who"]) != list(second.dataframe[0].value["who"])
    assert len(first.dataframe[0].value) == 12


def test_times_are_those_of_the_campaigns_clocks() -> None:
    assert times.clock(NOW, "Europe/London") == "13:47"
    assert times.when(NOW + timedelta(days=1), "Europe/London", NOW) == "Fri 26 Jun, 13:47"
    assert times.with_utc(NOW, "Europe/London") == "25 June 2026, 13:47:00 Europe/London · 12:47:00 UTC"
    assert times.ago(NOW - timedelta(minutes=4, seconds=30), NOW) == "4 min ago"
    assert times.until(NOW + timedelta(minutes=83), NOW) == "in 1 h 23 min"
    assert times.late(190_000) == "3 min late"
    assert times.late(1_900) == ""


def test_a_line_that_quotes_a_server_stays_a_line() -> None:
    quoted = (
        "503 https://evil.example/x ![a](http://evil.example/b.png) :streamlit: <b>www.evil.example</b> a@evil.example"
    )
    tamed = ui.tame(quoted)
    assert "://" not in tamed
    assert "evil.example" not in tamed
    assert ":streamlit:" not in tamed
    assert "<b>" not in tamed


def _state(folder: Path, post: str) -> PostState:
    with opened(folder) as store:
        found: PlannedPost = next(one for one in store.posts.all(FOLDER) if one.post.id == post)
    return found.state
