"""People: who sits at this page, and what they may do."""

from __future__ import annotations

import re
from dataclasses import dataclass

import streamlit as st

from dashboards.desk_state import Here
from shareasm.desk import Role, role_of

APPROVERS = frozenset({"approver", "admin"})
PAUSERS = frozenset({"author", "approver", "admin"})

KEY = "person"
_NAME = re.compile(r"[\w .’'@+-]{1,60}")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody at a page. `role` is None for one whom desk.toml does not name."""

    name: str
    role: Role | None

    @property
    def may_approve(self) -> bool:
        """Return True for who may approve, decide and lift a pause."""
        return self.role in APPROVERS

    @property
    def may_pause(self) -> bool:
        """Return True for who may stop what has not begun."""
        return self.role in PAUSERS


def who(here: Here) -> Person | None:
    """Return the person at this page; None until they have said who they are."""
    name = str(st.user.get("email") or "") if here.desk.dashboard.login == "oidc" else st.session_state.get(KEY, "")
    return Person(name, role_of(here.desk, name)) if name else None


def is_let_in(here: Here) -> bool:
    """Return True for who may see the pages: without a login whoever sits at the machine. Else draw the door."""
    if here.desk.dashboard.login != "oidc":
        return True
    person = who(here) if st.user.get("is_logged_in") else None
    if person is not None and person.role is not None:
        return True
    st.title("Sign in", anchor=False)
    if person is None:
        st.button("Sign in", key="sign_in", icon=":material/login:", type="primary", on_click=st.login)
    else:
        st.text(f"{person.name} is not named under [people] in desk.toml. An admin can add them.")
        st.button("Sign out", key="sign_out", icon=":material/logout:", on_click=st.logout)
    return False


def may_approve(here: Here) -> bool:
    """Return True when a button for approvers may be shown: the person may, or has not said yet who they are."""
    person = who(here)
    return person.may_approve if person else True


def may_pause(here: Here) -> bool:
    """Return True when the stop button may be shown."""
    person = who(here)
    return person.may_pause if person else True


def ask_name(here: Here, *, key: str) -> str:
    """Draw the question who this is, and return the answer; empty until there is a usable one.

    With a login there is nothing to ask. With people in desk.toml one of them is chosen; else a name is typed once.
    """
    if here.desk.dashboard.login == "oidc":
        person = who(here)
        return person.name if person else ""
    known = st.session_state.get(KEY, "")
    if here.desk.people:
        names = list(here.desk.people)
        index = names.index(known) if known in names else None
        return st.selectbox("Who are you?", names, index=index, key=key, placeholder="Choose your name") or ""
    typed = st.text_input(
        "Your name", value=known, key=key, max_chars=60, live=True, help="It stands in the audit log."
    )
    return (typed or "").strip() if _NAME.fullmatch((typed or "").strip()) else ""


def remember(here: Here, name: str) -> None:
    """Keep who this is for the rest of the session; a login needs no keeping."""
    if here.desk.dashboard.login != "oidc":
        st.session_state[KEY] = name


def person_menu(here: Here) -> None:
    """Show who this is, and let them say it."""
    person = who(here)
    label = f"{person.name}, {person.role or 'no role'}" if person else "Who are you?"
    if here.desk.dashboard.login == "oidc":
        st.caption(label, width="content")
        return
    with st.popover(label, icon=":material/person:", type="tertiary", width="content"):
        name = ask_name(here, key="person_menu")
        if name and name != st.session_state.get(KEY, ""):
            remember(here, name)
            st.rerun()
        st.caption(_what_they_may_do(who(here)))


def _what_they_may_do(person: Person | None) -> str:
    if person is None:
        return "Reading needs no name. Approving, deciding and stopping do."
    if person.role is None:
        return "This name is not in desk.toml: it may read."
    may = ["read"] + ["stop"] * person.may_pause + ["approve", "decide", "resume"] * person.may_approve
    return f"{person.role.capitalize()}: may {', '.join(may)}."
