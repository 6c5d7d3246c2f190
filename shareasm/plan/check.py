"""Check: every problem of every post on every network, before the day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shareasm.errors import Problem
from shareasm.model import Campaign, Limits, Post
from shareasm.plan.approval import texts_for
from shareasm.text import TagRule, bare_domains, count_graphemes, did_you_mean, overrun

if TYPE_CHECKING:
    from shareasm.plan.files import CampaignPlan

PLANS = "scheduled_posts"
"""The folder of a desk that holds its campaigns."""

NETWORKS = ("x", "bluesky", "mastodon", "practice")
"""Networks that a plan may name, whether this desk has an account there today or not."""


def check_plan(
    plan: CampaignPlan, *, limits: Mapping[str, Limits], accounts: Mapping[str, str], now: datetime
) -> CampaignPlan:
    """Return the plan with every problem found, and `ready` taken from each post that has an error. Pure.

    `limits` are by network, `accounts` give each account's network.
    """
    twins = list(check_twins(plan.posts, plan.campaign, accounts))
    posts: list[Post] = []
    of_posts: dict[str, tuple[Problem, ...]] = {}
    for post in plan.posts:
        found = [*plan.of_posts.get(post.id, ())]
        found += check_post(post, plan.campaign, limits=limits, accounts=accounts, now=now)
        found += [problem for name, problem in twins if name == post.id]
        of_posts[post.id] = tuple(dict.fromkeys(found))
        posts.append(replace(post, ready=post.ready and not any(problem.level == "error" for problem in found)))
    problems = dict.fromkeys([*plan.problems, *(problem for found in of_posts.values() for problem in found)])
    return replace(plan, posts=tuple(posts), problems=tuple(problems), of_posts=of_posts)


def check_post(
    post: Post, campaign: Campaign, *, limits: Mapping[str, Limits], accounts: Mapping[str, str], now: datetime
) -> list[Problem]:
    """Return everything that is wrong with one post, errors and warnings. Pure."""
    networks = dict.fromkeys(accounts[name] for name in post.accounts if name in accounts)
    found = [*check_accounts(post, campaign, accounts), *check_alt_texts(post, campaign)]
    found += _check_times(post, campaign, now)
    found += _check_headings(post, campaign, networks, limits)
    rule = TagRule.of(campaign)
    for network in networks:
        if network in limits:
            found += _check_texts(post, campaign, network, limits[network], rule)
            found += _check_pictures(post, campaign, network, limits[network])
    return list(dict.fromkeys(found))


def check_accounts(post: Post, campaign: Campaign, known: Iterable[str]) -> Iterator[Problem]:
    """Yield a problem for each account that desk.toml does not have, naming the nearest."""
    names = list(known)
    for account in post.accounts:
        if account not in names:
            inherited = "accounts:" not in post.lines and account in campaign.accounts
            where = f"{PLANS}/{campaign.folder}/campaign.toml" if inherited else line_of(post, campaign, "accounts:")
            yield Problem(where, f"There is no account “{account}” in desk.toml.", did_you_mean(account, names))
    if not post.accounts:
        yield Problem(line_of(post, campaign), "This post has no account.", "Add one to desk.toml.")


def check_alt_texts(post: Post, campaign: Campaign) -> Iterator[Problem]:
    """Yield a problem for each picture that says nothing to those who cannot see it."""
    for index, media in enumerate(post.media):
        if not media.alt.strip():
            where = line_of(post, campaign, "media:", index)
            yield Problem(where, f"{media.file} has no alt text for {post.language}.", "Say what it shows.")


def check_twins(
    posts: Sequence[Post], campaign: Campaign, accounts: Mapping[str, str]
) -> Iterator[tuple[str, Problem]]:
    """Yield a post's id and a warning where one account would say the same text twice within one hour."""
    said: dict[tuple[str, str], Post] = {}
    for post in sorted(posts, key=lambda post: (post.due_at, post.id)):
        for account in post.accounts:
            words = " ".join(" ".join(post.parts_for(accounts.get(account, ""))).casefold().split())
            earlier = said.get((account, words))
            if words and earlier and post.due_at - earlier.due_at < timedelta(hours=1):
                why = f"{account} says the same in {earlier.id} within the hour."
                yield post.id, _warning(line_of(post, campaign), why, "X refuses the second one.")
            said[account, words] = post


def line_of(post: Post, campaign: Campaign, key: str = "", index: int = 0) -> str:
    """Return file and line of a part (by its network) or of a key (as `media:`); the post's id where it has no file."""
    if not post.file:
        return post.id
    lines = post.lines.get(key) or (() if key.endswith(":") else post.lines.get("", ()))
    line = lines[min(index, len(lines) - 1)] if lines else post.line
    return f"{PLANS}/{campaign.folder}/{post.file}:{line}"


def _check_times(post: Post, campaign: Campaign, now: datetime) -> Iterator[Problem]:
    where = line_of(post, campaign, "publish_at:")
    when = f"{post.due_local} ({post.time_zone})"
    if post.due_at <= now:
        yield _warning(where, f"{when} has passed.", "It will be missed, not sent.")
    if not campaign.start <= post.due_at < campaign.end:
        yield _warning(where, f"{when} lies outside the campaign.", "Look at day and time zone.")


def _check_headings(
    post: Post, campaign: Campaign, networks: Iterable[str], limits: Mapping[str, Limits]
) -> Iterator[Problem]:
    networks = list(networks)
    for network in post.parts:
        where = line_of(post, campaign, network)
        known = {*limits, *NETWORKS}
        if network and network not in known:
            yield Problem(where, f"There is no network “{network}”.", did_you_mean(network, known))
        elif network and network not in networks and "accounts:" in post.lines:
            yield _warning(where, f"No account of this post is on {_name(network)}.", "Nobody will read this wording.")


def _check_texts(post: Post, campaign: Campaign, network: str, limits: Limits, rule: TagRule) -> Iterator[Problem]:
    key = network if network in post.parts else ""
    if not post.parts_for(network):
        yield Problem(line_of(post, campaign), f"There is no text for {_name(network)}.", _write_wording(post, network))
        return
    if post.warning and not limits.warnings:
        where = line_of(post, campaign, "warning:")
        yield _warning(where, f"{_name(network)} shows no content warning.", "Say it in the text too.")
    for index, text in enumerate(texts_for(post, network, limits)):
        where = line_of(post, campaign, key, index)
        if much := overrun(text, limits, warning=post.warning):
            remedy = "Shorten it." if key else f"Shorten it or add `## {post.language} / {network}`."
            yield Problem(where, f"{much} for {_name(network)}.", remedy)
        if limits.count == "weighted" and (bare := bare_domains(text)):
            why = f"X makes a link of {_list(bare)}, which counts {limits.link_weight or 23}."
            yield _warning(where, why, "If none is meant, put a space behind the full stop.")
        if index == 0 and rule.match(text) is None:
            why = f"#{campaign.hashtags[0]} is not in the text for {_name(network)}."
            yield _warning(where, why, "Without it nobody finds the post under the campaign.")


def _check_pictures(post: Post, campaign: Campaign, network: str, limits: Limits) -> Iterator[Problem]:
    name = _name(network)
    if len(post.media) > limits.pictures:
        why = f"{len(post.media)} pictures are too many: {name} takes {limits.pictures}."
        yield Problem(line_of(post, campaign, "media:"), why, "Take some out.")
    for index, media in enumerate(post.media):
        where = line_of(post, campaign, "media:", index)
        if media.size > limits.picture_bytes and not limits.shrinks:
            much = f"{media.size:,} of {limits.picture_bytes:,} bytes"
            yield Problem(where, f"{media.file}: {much} for {name}.", "Make it smaller.")
        if (length := count_graphemes(media.alt)) > limits.alt_text:
            why = f"The alt text of {media.file} is too long: {length:,} of {limits.alt_text:,} for {name}."
            yield Problem(where, why, "Shorten it.")


def _write_wording(post: Post, network: str) -> str:
    return f"Write it under `## {post.language}` or `## {post.language} / {network}`."


def _name(network: str) -> str:
    return network.capitalize()


def _list(words: Sequence[str]) -> str:
    return ", ".join(f"“{word}”" for word in words)


def _warning(where: str, why: str, what_to_do: str) -> Problem:
    return Problem(where, why, what_to_do, "warning")
