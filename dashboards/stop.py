"""Stop: the button on every page, the band while something is stopped, and the way back."""

from __future__ import annotations

import streamlit as st

from dashboards import acts, people, times, ui
from dashboards.desk_state import Here, here
from shareasm.errors import DeskError
from shareasm.model import Campaign, DeliveryState, Switch

_SCOPES = {
    "all": "Everything",
    "campaign": "This campaign",
    "network": "One network",
    "account": "One account",
    "language": "One language",
}


def stop_button(desk: Here, campaign: Campaign) -> None:
    """Draw the one button that stops what has not begun."""
    allowed = people.may_pause(desk)
    why_not = None if allowed else "Stopping takes an author, an approver or an admin."
    if st.button("Stop", key="stop", icon=":material/front_hand:", type="primary", disabled=not allowed, help=why_not):
        _stop_dialog(campaign)


def bands(campaign: Campaign) -> None:
    """Draw a full-width band for every pause that is on: what, who, when, why, and “Resume” for those who may."""
    desk = here()
    for switch in desk.store.switches.on():
        _band(desk, switch, campaign)


def scope_words(switch: Switch) -> str:
    """Return what a pause covers, in words for staff."""
    if switch.scope == "all":
        return "everything"
    named = {
        "campaign": f"the campaign {switch.key}",
        "network": ui.network_name(switch.key),
        "account": f"the account {switch.key}",
        "language": ui.language_name(switch.key),
    }
    return named[switch.scope]


def _band(desk: Here, switch: Switch, campaign: Campaign) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"band_{switch.id}"):
        with st.container(gap=None, width="stretch"):
            title = f"Stopped: {ui.literal(scope_words(switch))}. Nothing of it goes out."
            st.warning(" ", title=title, icon=":material/front_hand:")
            at = times.when(switch.at, campaign.time_zone, desk.now)
            st.text(f"{switch.by}, {at} ({campaign.time_zone}): {switch.reason}")
        if people.may_approve(desk) and st.button("Resume", key=f"resume_{switch.id}", icon=":material/play_arrow:"):
            _resume_dialog(switch)


@st.dialog("Stop sending", icon=":material/front_hand:")
def _stop_dialog(campaign: Campaign) -> None:
    desk = here()
    words = _SCOPES.__getitem__
    scope = st.pills("What", list(_SCOPES), format_func=words, default="all", required=True, key="stop_scope")
    key = _ask_key(desk, campaign, str(scope))
    reason = st.text_input("Why", key="stop_why", max_chars=200, placeholder="Shown to everyone while it is stopped")
    name = people.ask_name(desk, key="stop_by")
    st.caption("What has not begun stays at home within a second. What is on its way ends normally.")
    label = "Stop everything" if scope == "all" else "Stop it"
    if st.button(label, key="stop_now", type="primary", disabled=not name or (scope != "all" and not key)):
        try:
            people.remember(desk, name)
            acts.pause(desk, str(scope), key, by=name, reason=reason.strip())
        except DeskError as error:
            ui.show_error(error, "stop", retry=False)
        else:
            st.rerun()


@st.dialog("Resume", icon=":material/play_arrow:")
def _resume_dialog(switch: Switch) -> None:
    desk = here()
    fallen = desk.store.queue.counts().get(DeliveryState.PAUSED, 0)
    st.text(f"Lift the pause of {scope_words(switch)}?")
    st.caption(
        f"{ui.counted(fallen, 'delivery', 'deliveries')} fell due while something was paused. They stay where they are "
        "until somebody releases them one by one on Plan; what is not yet due goes out at its time."
    )
    reason = st.text_input("Why", key="resume_why", max_chars=200)
    name = people.ask_name(desk, key="resume_by")
    if st.button("Resume", key="resume_now", type="primary", disabled=not name):
        try:
            people.remember(desk, name)
            acts.resume(desk, switch, by=name, reason=reason.strip())
        except DeskError as error:
            ui.show_error(error, "resume", retry=False)
        else:
            st.rerun()


def _ask_key(desk: Here, campaign: Campaign, scope: str) -> str:
    """Draw the question which one, where the scope has several, and return its key."""
    if scope == "all":
        return ""
    if scope == "campaign":
        return campaign.folder
    choices = {
        "network": sorted(set(desk.desk.networks.values())),
        "account": sorted(desk.desk.accounts),
        "language": sorted(campaign.languages),
    }[scope]
    names = {"network": ui.network_name, "language": ui.language_name}.get(scope, str)
    return st.selectbox("Which one", choices, format_func=names, key=f"stop_key_{scope}") or ""
