"""Tables: every column of the desk, once. What the database itself can hold, it holds.

Moments are whole microseconds (`Moment`), ids of networks are text, counts that nobody gave are null. Tables that grow
carry the campaign in their key, so that they can be split by campaign without a change of code.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from shareasm.model import KINDS, DeliveryState, MentionState, PostState
from shareasm.store.engine import Moment

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = BigInteger().with_variant(Integer, "sqlite")


def _one_of(column: str, values: object, name: str) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)  # pyright: ignore[reportGeneralTypeIssues]
    return CheckConstraint(f"{column} IN ({listed})", name=name)


# ── The plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────

campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("folder", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("start_at", Moment, nullable=False),
    Column("end_at", Moment, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("settings", Text, nullable=False),  # the whole of campaign.toml, as JSON
    Column("synced_at", Moment, nullable=False),
)

posts = Table(
    "posts",
    metadata,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("id", Text, primary_key=True),
    Column("message", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("revision_hash", Text, nullable=False),
    Column("approved_hash", Text),
    Column("approved_by", Text),
    Column("approved_at", Moment),
    Column("due_at", Moment, nullable=False),
    Column("language", Text, nullable=False),
    Column("content", Text, nullable=False),  # the whole post, as JSON
    Column("file", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Column("problems", Text, nullable=False, server_default="[]"),
    Column("note", Text, nullable=False, server_default=""),  # "changed since sent", "file is missing"
    Column("updated_at", Moment, nullable=False),
    _one_of("state", PostState, "state"),
)

# ── Publishing ───────────────────────────────────────────────────────────────────────────────────────────────────────

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("post_id", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Column("of_parts", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("due_at", Moment, nullable=False),
    Column("next_at", Moment, nullable=False),
    Column("not_after", Moment, nullable=False),
    Column("if_late", Text, nullable=False, server_default="ask"),
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("frozen", Text, nullable=False),
    Column("frozen_hash", Text, nullable=False),
    Column("wire", Text),  # the request's body with its reply references, fixed by the first intent
    Column("idem_key", Text, nullable=False),
    Column("key_used_at", Moment),
    Column("reply_to", Text, nullable=False, server_default=""),  # id of another post of ours
    Column("remote_id", Text),
    Column("remote_cid", Text),
    Column("remote_url", Text),
    Column("sent_at", Moment),
    Column("late_ms", BigInteger),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("absent_seen", Integer, nullable=False, server_default="0"),
    Column("unconfirmed_at", Moment),
    Column("created_at", Moment, nullable=False),
    _one_of("state", DeliveryState, "state"),
    Index(
        "uq_deliveries_live_part",
        "campaign_id",
        "post_id",
        "account",
        "part",
        unique=True,
        sqlite_where=text("state <> 'cancelled'"),
        postgresql_where=text("state <> 'cancelled'"),
    ),
    Index(  # one send lane per account, whatever number of workers runs
        "uq_deliveries_lane",
        "account",
        unique=True,
        sqlite_where=text("state IN ('claimed', 'sending')"),
        postgresql_where=text("state IN ('claimed', 'sending')"),
    ),
    Index("uq_deliveries_key", "account", "idem_key", unique=True),
    Index("uq_deliveries_remote", "account", "remote_id", unique=True),
    Index("ix_deliveries_receipt", "network", "remote_id"),
    Index("ix_deliveries_due", "state", "next_at"),
    Index("ix_deliveries_campaign", "campaign_id", "due_at"),
    Index("ix_deliveries_post", "campaign_id", "post_id", "account", "part"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("delivery_id", Text, ForeignKey("deliveries.id"), nullable=False),
    Column("fence", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("phase", Text, nullable=False),
    Column("http_status", Integer),
    Column("error", Text, nullable=False, server_default=""),
    Column("reset_at", Moment),
    Column("wall_at", Moment, nullable=False),
    Column("mono_at", Float, nullable=False),
    Column("body_digest", Text, nullable=False, server_default=""),
    Index("ix_attempts_delivery_id", "delivery_id"),
)

switches = Table(
    "switches",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("scope", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("reason", Text, nullable=False),
    Column("off_by", Text),
    Column("off_at", Moment),
    _one_of("scope", ("all", "campaign", "network", "account", "language"), "scope"),
)

closures = Table(  # an account that is closed for a while: a rate limit, a network that does not answer
    "closures",
    metadata,
    Column("account", Text, primary_key=True),
    Column("until", Moment, nullable=False),
    Column("reason", Text, nullable=False),
)

media_ready = Table(  # an upload belongs to one post on most networks, and carries its alt text: one per delivery
    "media_ready",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("place", Integer, primary_key=True),  # its place among the delivery's pictures, from 0
    Column("ready", Text, nullable=False),
    Column("prepared_at", Moment, nullable=False),
)

limits = Table(  # what each account's server accepts, as the worker last read it
    "limits",
    metadata,
    Column("account", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("read_at", Moment, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pid_started", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("beat_at", Moment, nullable=False),  # the world's time
    Column("desk_now", Moment, nullable=False),  # the desk's time: the same, but in a rehearsal
    Column("clock_offset_ms", Integer, nullable=False, server_default="0"),
    Column("rehearsal", Boolean, nullable=False, server_default=text("false")),
)

events = Table(
    "events",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("kind", Text, nullable=False),
    Column("words", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Moment, nullable=False),
    Column("person", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("before", Text, nullable=False, server_default=""),
    Column("after", Text, nullable=False, server_default=""),
    Column("why", Text, nullable=False, server_default=""),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

# ── The conversation ─────────────────────────────────────────────────────────────────────────────────────────────────

sources = Table(
    "sources",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("network", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("query", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cursor", Text),
    Column("complete_until", Moment),
    Column("last_ok_at", Moment),
    Column("last_try_at", Moment),
    Column("error", Text, nullable=False, server_default=""),
    Column("lease_owner", Text),
    Column("lease_until", Moment),
    _one_of("state", ("complete", "catching up", "gap open", "stopped", "partial by nature", "as imported"), "state"),
    Index("uq_sources_place", "campaign_id", "network", "server", unique=True),
)

gaps = Table(
    "gaps",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("source_id", Id, ForeignKey("sources.id"), nullable=False),
    Column("from_at", Moment),
    Column("to_at", Moment),
    Column("from_cursor", Text, nullable=False, server_default=""),
    Column("to_cursor", Text, nullable=False, server_default=""),
    Column("why", Text, nullable=False),
    Column("opened_at", Moment, nullable=False),
    Column("closed_at", Moment),
    Column("closed_by", Text, nullable=False, server_default=""),
    Index("ix_gaps_source_id", "source_id"),
)

authors = Table(
    "authors",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("network", Text, nullable=False),
    Column("native_id", Text, nullable=False),
    Column("handle", Text, nullable=False, server_default=""),
    Column("name", Text, nullable=False, server_default=""),
    Column("bot", Boolean),
    Column("created_at", Moment),
    Column("may_be_named", Boolean, nullable=False, server_default=text("true")),
    Column("told_at", Moment, nullable=False),  # when handle and name were so: an old archive does not rename anybody
    Index("uq_authors_native", "network", "native_id", unique=True),
)

hidden_authors = Table(  # whose account is gone for now, as this campaign's sources saw it
    "hidden_authors",
    metadata,
    Column("campaign_id", Id, ForeignKey("campaigns.id"), primary_key=True),
    Column("author_id", Id, ForeignKey("authors.id"), primary_key=True),
    Column("since", Moment, nullable=False),
    sqlite_with_rowid=False,
)

author_counts = Table(
    "author_counts",
    metadata,
    Column("author_id", Id, ForeignKey("authors.id"), primary_key=True),
    Column("at", Moment, primary_key=True),
    Column("followers", BigInteger),
    Column("following", BigInteger),
    Column("posts", BigInteger),
    Column("source", Text, nullable=False, server_default=""),
)

mentions = Table(
    "mentions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),  # in order of arrival
    Column("campaign_id", Id, ForeignKey("campaigns.id"), nullable=False),
    Column("network", Text, nullable=False),
    Column("native_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("in_totals", Boolean, nullable=False),  # counted, or deleted after it was counted
    Column("author_id", Id, nullable=False),
    Column("posted_at", Moment, nullable=False),
    Column("first_seen_at", Moment, nullable=False),
    Column("edited_at", Moment),
    Column("text", Text, nullable=False),
    Column("language", Text, nullable=False, server_default=""),
    Column("language_source", Text, nullable=False, server_default=""),
    Column("of_native_id", Text, nullable=False, server_default=""),
    Column("root_native_id", Text, nullable=False, server_default=""),
    Column("spelling", Text, nullable=False, server_default=""),
    Column("bridged_of", Text, nullable=False, server_default=""),
    Column("url", Text, nullable=False, server_default=""),
    Column("details", Text, nullable=False, server_default="{}"),  # tags, links, media, who is named: JSON
    Column("revision", Integer, nullable=False, server_default="1"),
    _one_of("kind", KINDS, "kind"),
    _one_of("state", MentionState, "state"),
    Index("uq_mentions_native", "campaign_id", "network", "native_id", unique=True),
    Index("ix_mentions_posted", "campaign_id", "posted_at"),
    Index("ix_mentions_author", "campaign_id", "author_id", "posted_at"),
    Index(  # reposts and answers find their original, and an original its early answers
        "ix_mentions_of",
        "campaign_id",
        "of_native_id",
        sqlite_where=text("of_native_id <> ''"),
        postgresql_where=text("of_native_id <> ''"),
    ),
)

sightings = Table(
    "sightings",
    metadata,
    Column("mention_id", Id, primary_key=True),
    Column("source_id", Id, primary_key=True),
    Column("seen_at", Moment, nullable=False),
    sqlite_with_rowid=False,
)

raws = Table(
    "raws",
    metadata,
    Column("mention_id", Id, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("fetched_at", Moment, nullable=False),
    Column("source_id", Id, nullable=False),
    Column("body", LargeBinary, nullable=False),  # zstd of the record as it came
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("mention_id", Id, primary_key=True),
    Column("at", Moment, primary_key=True),
    Column("source_id", Id, primary_key=True),
    Column("age_s", BigInteger, nullable=False),
    Column("likes", BigInteger),
    Column("reposts", BigInteger),
    Column("replies", BigInteger),
    Column("quotes", BigInteger),
    Column("bookmarks", BigInteger),
    Column("views", BigInteger),
    Column("server", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

# ── Rollups: what pages read instead of the mentions ─────────────────────────────────────────────────────────────────

r_time = Table(
    "r_time",
    metadata,
    Column("campaign_id", Id, primary_key=True),
    Column("minute", Integer, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("spoken", Integer, nullable=False, server_default="0"),
    Column("reposts", Integer, nullable=False, server_default="0"),
    Column("conversation", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

r_share = Table(
    "r_share",
    metadata,
    Column("campaign_id", Id, primary_key=True),
    Column("day", Integer, primary_key=True),  # local day of the campaign, as a proleptic ordinal
    Column("network", Text, primary_key=True),
    Column("language", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # a mention's kind, or "carried", or "conversation"
    Column("posts", Integer, nullable=False, server_default="0"),
    Column("deleted", Integer, nullable=False, server_default="0"),
    Column("likes", BigInteger, nullable=False, server_default="0"),
    Column("reposts", BigInteger, nullable=False, server_default="0"),
    Column("replies", BigInteger, nullable=False, server_default="0"),
    Column("quotes", BigInteger, nullable=False, server_default="0"),
    Column("views", BigInteger, nullable=False, server_default="0"),
    Column("n_likes", Integer, nullable=False, server_default="0"),  # posts whose network gave the count
    Column("n_reposts", Integer, nullable=False, server_default="0"),
    Column("n_replies", Integer, nullable=False, server_default="0"),
    Column("n_quotes", Integer, nullable=False, server_default="0"),
    Column("n_views", Integer, nullable=False, server_default="0"),
    Column("n_counts", Integer, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

r_author = Table(
    "r_author",
    metadata,
    Column("campaign_id", Id, primary_key=True),
    Column("author_id", Id, primary_key=True),
    Column("network", Text, nullable=False),
    Column("group_name", Text, nullable=False, server_default="unknown"),
    Column("country", Text, nullable=False, server_default=""),
    Column("ours", Boolean, nullable=False, server_default=text("false")),
    Column("spoken", Integer, nullable=False, server_default="0"),
    Column("reposts", Integer, nullable=False, server_default="0"),
    Column("first_at", Moment, nullable=False),
    Column("last_at", Moment, nullable=False),
    Column("followers", BigInteger),
    Column("followers_at", Moment),
    Column("engagements", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
Index("ix_r_author_posts", r_author.c.campaign_id, text("(spoken + reposts) DESC"))
Index("ix_r_author_followers", r_author.c.campaign_id, r_author.c.followers.desc())
Index("ix_r_author_author", r_author.c.author_id, r_author.c.campaign_id)

r_post = Table(
    "r_post",
    metadata,
    Column("campaign_id", Id, primary_key=True),
    Column("mention_id", Id, primary_key=True),
    Column("likes", BigInteger),
    Column("reposts", BigInteger),
    Column("replies", BigInteger),
    Column("quotes", BigInteger),
    Column("views", BigInteger),
    Column("engagements", BigInteger),
    Column("age_s", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_r_post_engagements", r_post.c.campaign_id, r_post.c.engagements.desc())

r_reach = Table(
    "r_reach",
    metadata,
    Column("campaign_id", Id, primary_key=True),
    Column("network", Text, primary_key=True),
    Column("group_name", Text, primary_key=True),
    Column("ours", Boolean, primary_key=True),
    Column("authors", Integer, nullable=False, server_default="0"),
    Column("speaking", Integer, nullable=False, server_default="0"),
    Column("only_reposting", Integer, nullable=False, server_default="0"),
    Column("followers_sum", BigInteger, nullable=False, server_default="0"),
    Column("followers_max", BigInteger, nullable=False, server_default="0"),
    Column("followers_known", Integer, nullable=False, server_default="0"),
    Column("followers_only_reposting", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

ROLLUPS = (r_time, r_share, r_author, r_post, r_reach)

APPEND_ONLY = ("attempts", "audit")
FROZEN_COLUMNS = ("frozen", "frozen_hash", "idem_key")
