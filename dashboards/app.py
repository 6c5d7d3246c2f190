"""The desk's pages: identity, navigation, and what stands around each of them. One line here is one page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboards import frame, people, ui
from dashboards.desk_state import here

ASSETS = Path(__file__).parent / "assets"  # Streamlit takes relative paths from the folder it was started in
ICON = str(ASSETS / "icon.svg")  # a Material icon here would be asked of fonts.gstatic.com

st.set_page_config(page_title="shareasm", page_icon=ICON, layout="wide", menu_items={"About": None})
st.logo(str(ASSETS / ("logo-dark.svg" if st.context.theme.type == "dark" else "logo.svg")), size="large")

page = st.navigation(
    [
        st.Page("views/today.py", title="Today", icon=":material/monitoring:", default=True),
        st.Page("views/plan.py", title="Plan", icon=":material/event_upcoming:"),
    ],
    position="top",
)
with ui.edge("desk"):
    desk = here()
    if people.is_let_in(desk) and frame.head():
        page.run()
    frame.foot(desk)
