"""Frame: what stands around every page: whose day it is, how fresh its numbers are, and the stop button."""

from __future__ import annotations

import streamlit as st

from dashboards import people, stop, times, ui
from dashboards.desk_state import Here, campaigns, here, nearest
from shareasm.model import Campaign

CAMPAIGN = "campaign"
REHEARSAL = "Rehearsal: the audience is simulated"


def chosen(desk: Here) -> Campaign:
    """Return the campaign in the address, else the one that runs. Raise PlanError when the desk has none."""
    found = campaigns(desk.store)
    asked = st.session_state.get(CAMPAIGN) or st.query_params.get(CAMPAIGN)
    return next((campaign for campaign in found if campaign.folder == asked), None) or nearest(found, desk.now)


def head() -> bool:
    """Draw the top of a page. Return False when the desk has no campaign yet: nothing else is to be drawn."""
    desk = here()
    if not campaigns(desk.store):
        st.title("A new desk", anchor=False)
        ui.empty(
            "No campaign yet",
            "Write one into scheduled\\_posts/, then run **shareasm plan sync**; **shareasm demo** shows a day.",
            ":material/campaign:",
        )
        return False
    campaign = chosen(desk)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        with st.container(width="content", gap=None):
            st.title(ui.literal(campaign.name), anchor=False)
            ui.live("line", lambda: _line(campaign), seconds=desk.refresh_seconds)
        with st.container(horizontal=True, width="content", vertical_alignment="center"):
            _choose(desk)
            people.person_menu(desk)
            stop.stop_button(desk, campaign)
    ui.live("bands", lambda: stop.bands(campaign), seconds=min(desk.refresh_seconds, 10))
    return True


def foot(desk: Here) -> None:
    """Draw the foot of a page: whose desk it is, and what it does not do."""
    st.space("medium")
    whose = f"{ui.literal(desk.desk.organisation)} · " if desk.desk.organisation else ""
    st.caption(f"{whose}No cookies but the login, no third parties: every request of this page stays on this desk.")


def _line(campaign: Campaign) -> None:
    desk = here()
    zone = campaign.time_zone
    ended = desk.now > campaign.end + ui.BEHIND_AFTER
    fresh = ui.freshness(desk.store.sources.states(campaign.folder), desk, zone, ended=ended)
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.markdown(ui.campaign_line(campaign, desk.now), width="content")
        st.badge(
            f"{times.clock(desk.now, zone)} {ui.literal(zone)}",
            icon=":material/schedule:",
            color="gray",
            help=times.with_utc(desk.now, zone),
        )
        st.badge(fresh.words, icon=fresh.icon, color=fresh.colour, help=fresh.tooltip)
        if desk.rehearsal:
            st.badge(REHEARSAL, icon=":material/theater_comedy:", color="yellow")


def _choose(desk: Here) -> None:
    found = campaigns(desk.store)
    if len(found) < 2:
        return
    folders = [one.folder for one in found]  # as they stand in the address
    st.selectbox(
        "Campaign",
        folders,
        index=folders.index(nearest(found, desk.now).folder),  # what stands in the address goes before it
        key=CAMPAIGN,
        bind="query-params",
        label_visibility="collapsed",
        width=220,
    )
