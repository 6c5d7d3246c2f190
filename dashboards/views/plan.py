"""Plan: what do we say where and when, and is it ready?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from dashboards import acts, frame, people, states, times, ui
from dashboards.desk_state import Here, here, limits_by_network
from dashboards.states import Shown
from shareasm.errors import DeskError
from shareasm.model import Campaign, Delivery, DeliveryState, PostState
from shareasm.plan.approval import texts_for
from shareasm.store.posts import PlannedPost
from shareasm.text import weigh

PER_PAGE = 20
CARDS_PER_PAGE = 10
SHOWN = ("Next", "Out", "All")  # these words stand in the address, so they are short
TOLD = "told"  # what the last act made, told once after the page was read anew


@dataclass(frozen=True, slots=True)
class Board:
    """The plan of one campaign as it stands: its posts, and the deliveries of each."""

    here: Here
    campaign: Campaign
    posts: Sequence[PlannedPost]
    deliveries: dict[str, list[Delivery]]

    def of(self, planned: PlannedPost) -> list[Delivery]:
        """Return the deliveries of a post."""
        return self.deliveries.get(planned.post.id, [])

    def shown(self, planned: PlannedPost) -> Shown:
        """Return how a post is shown."""
        return states.post_shown(planned, self.of(planned))


def read_board(folder: str) -> Board:
    """Read the plan. Raise DeskError when it cannot be read."""
    desk = here()
    campaign = desk.store.campaigns.get(folder)
    deliveries = states.by_post(desk.store.queue.all(folder))
    return Board(desk, campaign, desk.store.posts.all(folder), deliveries)


def page() -> None:
    """Draw the page, one part after the other; each reads anew and fails alone."""
    desk = here()
    campaign = frame.chosen(desk)
    _tell()
    for name, draw, seconds in (
        ("decide", _decisions, desk.refresh_seconds),
        ("approval", _approvals, desk.refresh_seconds),
        ("queue", _queue, desk.refresh_seconds),
        ("grid", _grid, 30),
        ("problems", _problems, 30),
    ):
        ui.live(name, partial(_draw, draw, campaign.folder), seconds=seconds)


def _draw(part: Callable[[Board], None], folder: str) -> None:
    part(read_board(folder))


def _tell() -> None:
    for words, icon in st.session_state.pop(TOLD, []):
        st.toast(ui.tame(words), icon=icon)


# ── What waits for a person's word ───────────────────────────────────────────────────────────────────────────────────


def _decisions(board: Board) -> None:
    waiting = states.waiting_for_a_person([one for some in board.deliveries.values() for one in some])
    if not waiting:
        return
    ui.section(
        f"{ui.counted(len(waiting), 'delivery needs', 'deliveries need')} your word",
        f"Nothing of this goes out by itself. Times in {ui.literal(board.campaign.time_zone)}.",
    )
    number = ui.page_number("word", len(waiting), CARDS_PER_PAGE)
    with st.grid(2, min_column_width=340, gap="small"):
        for delivery in waiting[number * CARDS_PER_PAGE : (number + 1) * CARDS_PER_PAGE]:
            _decision(board, delivery)


def _decision(board: Board, delivery: Delivery) -> None:
    zone, shown = board.campaign.time_zone, states.delivery_shown(delivery)
    with st.container(border=True, gap="xsmall", height="stretch", key=f"card_{delivery.id}"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            ui.time_line(delivery.due_at, board.here.now, zone)
            ui.state_badge(shown)
        part = f" · part {delivery.part} of {delivery.of_parts}" if delivery.of_parts > 1 else ""
        st.caption(f"{ui.network_name(delivery.network)} {ui.literal(delivery.account)}{part}")
        ui.foreign(delivery.frozen.text)
        if delivery.reason:
            ui.foreign(delivery.reason)
        else:
            st.caption(shown.sentence)
        _answers(board, delivery)


def _answers(board: Board, delivery: Delivery) -> None:
    """Draw the answers that are permitted for this delivery, as buttons."""
    allowed = people.may_approve(board.here)
    with st.container(horizontal=True, gap="xsmall"):
        if delivery.state in states.RELEASABLE:
            word = "Send again" if delivery.tries else "Send now"
            if st.button(word, key=f"send_{delivery.id}", icon=":material/send:", disabled=not allowed):
                _decide_dialog(board.campaign, delivery, "send")
        if st.button("Let it go", key=f"cancel_{delivery.id}", icon=":material/close:", disabled=not allowed):
            _decide_dialog(board.campaign, delivery, "cancel")
        if delivery.tries and st.button("What was tried", key=f"tried_{delivery.id}", type="tertiary"):
            _tried_dialog(board.campaign, delivery)


@st.dialog("Your decision", icon=":material/gavel:")
def _decide_dialog(campaign: Campaign, delivery: Delivery, answer: str) -> None:
    desk = here()
    ui.foreign(delivery.frozen.text)
    where = f"{ui.network_name(delivery.network)} {delivery.account}"
    st.text(f"Send it to {where} now?" if answer == "send" else f"Keep it from {where} for good?")
    if answer == "send" and delivery.state is DeliveryState.NEEDS_HUMAN:
        st.caption("Look at the account first: if the post is there after all, sending it again doubles it.")
    why = st.text_input("Why", key="decide_why", max_chars=200, help="It stands in the audit log.")
    name = people.ask_name(desk, key="decide_by")
    label = "Send it" if answer == "send" else "Let it go"
    if st.button(label, key="decide_now", type="primary", disabled=not name):
        try:
            people.remember(desk, name)
            reason = why.strip() or "no reason given"
            if answer == "send":
                acts.send_now(desk, campaign, delivery, by=name, why=reason)
            else:
                acts.cancel(desk, delivery, by=name, why=reason)
        except DeskError as error:
            ui.show_error(error, "decide", retry=False)
        else:
            _say("It goes out now" if answer == "send" else "It will not go out")
            st.rerun()


@st.dialog("What was tried", icon=":material/history:")
def _tried_dialog(campaign: Campaign, delivery: Delivery) -> None:
    rows = [
        {
            "When": times.clock(row["wall_at"], campaign.time_zone),  # pyright: ignore[reportArgumentType]
            "Step": row["phase"],
            "Answer": row["http_status"],
            "Words": row["error"],
        }
        for row in here().store.queue.tried(delivery.id)
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="The attempts of this delivery, oldest first")


# ── Approval ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _approvals(board: Board) -> None:
    waiting = [one for one in board.posts if one.state is PostState.IN_REVIEW]
    if not waiting:
        return
    zone = ui.literal(board.campaign.time_zone)
    ui.section(
        f"{ui.counted(len(waiting), 'post needs', 'posts need')} approval",
        f"An approval binds text, pictures, accounts and time; an edit voids it. Times in {zone}.",
    )
    number = ui.page_number("ready", len(waiting), CARDS_PER_PAGE)
    on_page = waiting[number * CARDS_PER_PAGE : (number + 1) * CARDS_PER_PAGE]
    picked = [one for one in on_page if st.session_state.get(f"pick_{one.post.id}")]
    _approve_buttons(board, picked, waiting)
    with st.grid(2, min_column_width=340, gap="small"):
        for planned in on_page:
            _approval(board, planned)


def _approve_buttons(board: Board, picked: Sequence[PlannedPost], waiting: Sequence[PlannedPost]) -> None:
    allowed = people.may_approve(board.here)
    with st.container(horizontal=True, gap="xsmall"):
        icon = ":material/done_all:"
        if st.button(f"Approve selected ({len(picked)})", key="approve_picked", disabled=not (allowed and picked)):
            _approve_or_ask(board, picked)
        everything = f"Approve all {len(waiting)} ready"
        if st.button(everything, key="approve_all", icon=icon, type="primary", disabled=not allowed):
            _approve_dialog(board.campaign, [one.post.id for one in waiting])


def _approval(board: Board, planned: PlannedPost) -> None:
    zone, post = board.campaign.time_zone, planned.post
    with st.container(border=True, gap="xsmall", height="stretch"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            label = f"**{ui.literal(times.when(post.due_at, zone, board.here.now))}** {ui.literal(post.id)}"
            st.checkbox(label, key=f"pick_{post.id}")
            ui.state_badge(states.post_shown(planned, []))
        ui.show_wordings(planned, board.here.desk.networks, whole=True)
        utc = times.clock(post.due_at, "UTC")
        st.caption(f"{ui.language_name(post.language)} · {utc} UTC · {_counted_accounts(board, planned)}")
        for problem in planned.problems:
            ui.foreign(f"{problem.why} {problem.what_to_do}".strip())
        allowed = people.may_approve(board.here)
        if st.button("Approve", key=f"approve_{post.id}", icon=":material/check:", disabled=not allowed):
            _approve_or_ask(board, [planned])


def _counted_accounts(board: Board, planned: PlannedPost) -> str:
    """Return each account with how much of its network's limit the longest part uses: “iied-x 261 of 280”."""
    limits = limits_by_network(board.here.store, board.here.desk)
    found: list[str] = []
    for account in planned.post.accounts:
        network = board.here.desk.networks.get(account, "")
        name = account
        if network in limits:
            known = limits[network]
            used = max(
                weigh(text, known, warning=planned.post.warning) for text in texts_for(planned.post, network, known)
            )
            name += f" {used:,} of {known.text:,}"
        found.append(ui.literal(name))
    return " · ".join(found)


def _approve_or_ask(board: Board, chosen: Sequence[PlannedPost]) -> None:
    """Approve at once when we know who this is, else ask first."""
    person = people.who(board.here)
    posts = [one.post.id for one in chosen]
    if person is None:
        _approve_dialog(board.campaign, posts)
        return
    _approve(board.here, board.campaign, posts, person.name)
    st.rerun()


@st.dialog("Approve", icon=":material/check:")
def _approve_dialog(campaign: Campaign, posts: Sequence[str]) -> None:
    desk = here()
    st.text(f"Approve {ui.counted(len(posts), 'post')} of {campaign.name}?")
    st.caption("Each goes out at its time on each of its accounts, exactly as it stands now.")
    name = people.ask_name(desk, key="approve_by")
    if st.button("Approve", key="approve_now", type="primary", disabled=not name):
        try:
            people.remember(desk, name)
            _approve(desk, campaign, posts, name)
        except DeskError as error:
            ui.show_error(error, "approve", retry=False)
        else:
            st.rerun()


def _approve(desk: Here, campaign: Campaign, posts: Sequence[str], name: str) -> None:
    done = acts.approve(desk, campaign, posts, by=name)
    made = sum(done.deliveries.values())
    if done.deliveries:
        deliveries = ui.counted(made, "delivery", "deliveries")
        _say(f"Approved {ui.counted(len(done.deliveries), 'post')}: {deliveries} will go out")
    for words in done.left_out:
        _say(words, ":material/error:")


def _say(words: str, icon: str = ":material/check:") -> None:
    st.session_state.setdefault(TOLD, []).append((words, icon))


# ── The queue ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _queue(board: Board) -> None:
    zone = board.campaign.time_zone
    out = [one for one in board.posts if board.shown(one).kind == "out"]
    ui.section(
        f"{len(out):,} of {ui.counted(len(board.posts), 'post')} out" if board.posts else "The plan is empty",
        f"By local time in {ui.literal(zone)}; UTC stands under each time.",
    )
    if not board.posts:
        ui.empty(
            "No post yet", "Write files in scheduled\\_posts/, then run **shareasm plan sync**.", ":material/edit_note:"
        )
        return
    chosen = st.segmented_control(
        "Show", SHOWN, default="Next", required=True, key="show", bind="query-params", label_visibility="collapsed"
    )
    rows = _chosen(board, str(chosen))
    if not rows:
        ui.empty("Nothing here", "No post of the plan is in this list. Choose “All”.", ":material/filter_alt_off:")
        return
    number = ui.page_number("page", len(rows), PER_PAGE)
    with st.container(border=True, gap="medium"):
        for planned in rows[number * PER_PAGE : (number + 1) * PER_PAGE]:
            _row(board, planned)


def _chosen(board: Board, chosen: str) -> list[PlannedPost]:
    """Return the posts of a list by time, what is closed last."""
    if chosen == "Out":
        return [one for one in reversed(board.posts) if board.shown(one).kind == "out"]
    found = [one for one in board.posts if chosen == "All" or board.shown(one).kind not in {"out", "closed"}]
    return sorted(found, key=lambda one: board.shown(one).kind == "closed")


def _row(board: Board, planned: PlannedPost) -> None:
    zone, post = board.campaign.time_zone, planned.post
    when, what = st.columns([1.3, 5.7], vertical_alignment="top")
    with when, st.container(gap=None):
        st.markdown(f"**{ui.literal(times.when(post.due_at, zone, board.here.now))}**")
        st.caption(f"{times.clock(post.due_at, 'UTC')} UTC · {times.until(post.due_at, board.here.now)}")
        ui.state_badge(board.shown(planned))
    with what, st.container(gap=None):
        ui.show_wordings(planned, board.here.desk.networks)
        accounts = ui.accounts_line(planned)
        st.caption(f"{ui.literal(post.id)} · {ui.language_name(post.language)} · {accounts}")
        out = [one for one in board.of(planned) if one.state is DeliveryState.PUBLISHED and one.part == 1]
        if out:
            links = " · ".join(ui.receipt_words(delivery, zone) for delivery in out)
            st.markdown(f":small[:gray[Out:] {links}]")
        if planned.note:
            ui.foreign(planned.note)


# ── The grid and the problems ────────────────────────────────────────────────────────────────────────────────────────


def _grid(board: Board) -> None:
    if not board.posts:
        return
    written = {one.post.language for one in board.posts}
    languages = [*board.campaign.languages, *sorted(written - set(board.campaign.languages))]
    messages: dict[str, dict[str, PlannedPost]] = {}
    for one in board.posts:
        messages.setdefault(one.post.message, {})[one.post.language] = one
    missing = sum(language not in row for row in messages.values() for language in languages)
    ui.section(
        "Every message in every language",
        f"{ui.counted(len(messages), 'message')}; {missing:,} of {len(messages) * len(languages):,} wordings are not "
        f"written. First time of each in {ui.literal(board.campaign.time_zone)}.",
    )
    st.table(
        pd.DataFrame([_grid_row(board, message, row, languages) for message, row in messages.items()]),
        border="horizontal",
        hide_index=True,
        alt="Messages by language, with the state of each wording",
    )


def _grid_row(board: Board, message: str, row: dict[str, PlannedPost], languages: Sequence[str]) -> dict[str, str]:
    first = min(one.post.due_at for one in row.values())
    cells = {"Time": times.clock(first, board.campaign.time_zone), "Message": ui.literal(message)}
    for language in languages:
        one = row.get(language)
        cells[ui.language_name(language)] = ui.state_words(board.shown(one)) if one else ":gray[missing]"
    return cells


def _problems(board: Board) -> None:
    found = [(problem, one) for one in board.posts for problem in one.problems]
    if not found:
        return
    errors = sum(problem.level == "error" for problem, _ in found)
    ui.section(
        ui.counted(len(found), "problem") + " in the plan",
        f"{ui.counted(errors, 'post stays', 'errors keep posts')} at home; the others ask for a second look. "
        "Mend the file, then run **shareasm plan sync**.",
    )
    number = ui.page_number("problem", len(found), PER_PAGE)
    frame_ = pd.DataFrame(
        [
            {"": "Error" if problem.level == "error" else "Look", "Where": problem.where, "What": problem.why,
             "What to do": problem.what_to_do}
            for problem, _ in sorted(found, key=lambda pair: (pair[0].level != "error", pair[0].where))
        ]
    )  # fmt: skip
    st.dataframe(
        frame_[number * PER_PAGE : (number + 1) * PER_PAGE], hide_index=True, alt="Problems of posts with file and line"
    )


page()
