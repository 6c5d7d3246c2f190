"""The strict X of the tests, driven by tweepy and by X's own SDK: so that it is not only what we believe of X."""

import base64
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import chain, pairwise
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import requests
import tweepy
from PIL import Image
from requests.adapters import HTTPAdapter

from tests.servers import ROOT
from tests.servers.process import Process
from tests.servers.strict_x import DUPLICATE, QUOTE_GATE, REPLY_GATE, Post, StrictX

TAG = "#shareASM"


class Detour(HTTPAdapter):
    """Brings what tweepy signed for X to the strict one."""

    def __init__(self, base: str) -> None:
        self.base = base
        super().__init__(max_retries=0)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:  # type: ignore[override]
        parts = urlsplit(str(request.url))
        request.headers["X-Original-Host"] = parts.netloc
        request.url = str(request.url).replace(f"https://{parts.netloc}", self.base, 1)
        return super().send(request, *args, **options)


@pytest.fixture
def x() -> Iterator[StrictX]:
    with StrictX("desk", "other") as server:
        server.search_edge = timedelta(0)
        yield server


def by_tweepy(x: StrictX, username: str = "", **changes: str) -> tweepy.Client:
    keys = {**x.user_secrets(username or "desk"), **changes}
    client = tweepy.Client(
        None if username else x.bearer_token,
        keys["API_KEY"],
        keys["API_SECRET"],
        keys["ACCESS_TOKEN"],
        keys["ACCESS_SECRET"],
        return_type=dict,  # type: ignore[arg-type]
    )
    client.session.trust_env = False
    client.session.mount("https://", Detour(x.url))
    return client


def by_xdk(x: StrictX, username: str = "desk", **login: Any) -> Any:
    """X's own SDK, with our four keys, or as `login` says."""
    from xdk import Client
    from xdk.oauth1_auth import OAuth1

    keys = x.user_secrets(username)
    signer = OAuth1(keys["API_KEY"], keys["API_SECRET"], "oob", keys["ACCESS_TOKEN"], keys["ACCESS_SECRET"])
    return Client(base_url=x.url, **(login or {"auth": signer}))


def found(x: StrictX, query: str, **params: Any) -> list[str]:
    answer: Any = by_tweepy(x).search_recent_tweets(query, **params)
    return [one["id"] for one in answer.get("data", [])]


def problem_of(refused: pytest.ExceptionInfo[tweepy.HTTPException]) -> dict[str, Any]:
    return refused.value.response.json()


# ── Posts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tweepy_posts_reads_and_deletes(x: StrictX) -> None:
    client = by_tweepy(x, "desk")
    made: Any = client.create_tweet(text=f"Habari & <b> asm.org {TAG}")
    (post,) = x.standing("desk")
    assert made["data"]["id"] == post.id
    read: Any = client.get_tweet(
        post.id, user_auth=True, tweet_fields=["entities", "created_at"], expansions=["author_id"]
    )
    assert read["data"]["text"].startswith("Habari &amp; &lt;b&gt; https://t.co/")
    assert read["data"]["entities"]["urls"][0]["expanded_url"] == "http://asm.org"
    assert read["includes"]["users"][0]["username"] == "desk"
    timeline: Any = client.get_users_tweets(x.accounts["desk"].id, user_auth=True)
    assert [one["id"] for one in timeline["data"]] == [post.id]
    assert client.delete_tweet(post.id)["data"] == {"deleted": True}  # type: ignore[index]
    gone: Any = client.get_tweet(post.id, user_auth=True)
    assert gone["errors"][0]["type"].endswith("/resource-not-found")
    assert "data" not in gone


def test_a_wrong_signature_and_a_nonce_twice_are_refused(x: StrictX) -> None:
    for secret in ("ACCESS_SECRET", "API_SECRET"):
        with pytest.raises(tweepy.Unauthorized):
            by_tweepy(x, "desk", **{secret: "wrong"}).create_tweet(text="a")
    client = by_tweepy(x, "desk")
    signed = client.session.prepare_request(
        requests.Request("GET", "https://api.twitter.com/2/users/me", auth=_signer(x))
    )
    answers = [client.session.send(signed.copy()).status_code for _ in range(2)]
    assert answers == [200, 401]


def _signer(x: StrictX) -> Any:
    keys = x.user_secrets("desk")
    return tweepy.OAuth1UserHandler(
        keys["API_KEY"], keys["API_SECRET"], keys["ACCESS_TOKEN"], keys["ACCESS_SECRET"]
    ).apply_auth()


def test_the_app_alone_may_not_post(x: StrictX) -> None:
    with pytest.raises(tweepy.Forbidden) as refused:
        by_tweepy(x).create_tweet(text="a", user_auth=False)
    assert problem_of(refused)["type"].endswith("unsupported-authentication")


def test_the_same_text_again_and_too_long_a_text_are_refused(x: StrictX) -> None:
    client = by_tweepy(x, "desk")
    client.create_tweet(text="the same")
    with pytest.raises(tweepy.Forbidden, match=DUPLICATE):
        client.create_tweet(text="the same")
    with pytest.raises(tweepy.BadRequest, match="too long"):
        client.create_tweet(text="採" * 141)
    assert len(x.standing("desk")) == 1


def test_answers_and_quotes_pass_the_gates_only_where_x_lets_them(x: StrictX) -> None:
    client = by_tweepy(x, "desk")
    stranger, friend = x.say("other", "hello"), x.say("other", "hello @desk")
    own = x.say("desk", "1")
    with pytest.raises(tweepy.Forbidden) as refused:
        client.create_tweet(text="a", in_reply_to_tweet_id=stranger.id)
    assert problem_of(refused)["detail"] == REPLY_GATE
    with pytest.raises(tweepy.Forbidden) as refused:
        client.create_tweet(text="b", quote_tweet_id=stranger.id)
    assert problem_of(refused)["detail"] == QUOTE_GATE
    for parent in (friend, own):
        made: Any = client.create_tweet(text=f"to {parent.id}", in_reply_to_tweet_id=parent.id)
        post = x.posts[made["data"]["id"]]
        assert (post.references, post.conversation) == ([("replied_to", parent.id)], parent.id)
    read: Any = client.get_tweet(
        x.standing("desk")[-1].id, user_auth=True, tweet_fields=["in_reply_to_user_id", "conversation_id"]
    )
    assert read["data"]["in_reply_to_user_id"] == x.accounts["desk"].id
    assert read["data"]["conversation_id"] == own.id


def test_ids_tell_the_time_and_grow_with_the_clock(x: StrictX) -> None:
    first = x.say("desk", "1")
    x.clock.move(timedelta(days=2))
    second = x.say("desk", "2")
    assert second.created_at - first.created_at >= timedelta(days=2)
    assert int(second.id) > int(first.id)


# ── Search ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (TAG, ["tag", "swahili", "reply", "link"]),
        ("#SHAREASM", ["tag", "swahili", "reply", "link"]),
        ("#shareASMx", ["other tag"]),
        (f"{TAG} -is:reply", ["tag", "swahili", "link"]),
        (f"({TAG} OR #shareASMx) lang:en", ["tag", "other tag", "reply", "link"]),
        (f"{TAG} lang:sw", ["swahili"]),
        ('"small scale"', ["tag"]),
        ('"scale small"', []),
        ("silver gold OR dhahabu", ["swahili"]),
        ("silver (gold OR dhahabu)", []),
        (f"{TAG} has:links", ["link"]),
        (f"{TAG} -gold", ["tag", "reply", "link"]),
        ("scale", ["tag"]),
        ("scal", []),
        ("is:retweet from:other", ["repost"]),
    ],
)
def test_a_search_finds_what_its_query_says(x: StrictX, query: str, expected: list[str]) -> None:
    made: dict[str, Post] = {
        "tag": x.say("desk", f"small scale mining {TAG}"),
        "other tag": x.say("other", "wrong #shareASMx"),
        "swahili": x.say("desk", f"dhahabu ni gold {TAG}", lang="sw"),
    }
    made["reply"] = x.say("other", f"yes {TAG}", reply_to=made["tag"].id)
    made["link"] = x.say("other", f"see https://example.org {TAG}")
    made["repost"] = x.repost("other", made["tag"].id)
    assert found(x, query) == [made[name].id for name in reversed(expected)]


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (f"({TAG}", {}),
        (f"{TAG})", {}),
        ('"open', {}),
        ("-is:retweet", {}),
        ("lang:en", {}),
        ("nonsense:1", {}),
        ("a OR", {}),
        ("x" * 513, {}),
        (TAG, {"max_results": 5}),
        (TAG, {"max_results": 101}),
        (TAG, {"start_time": datetime.now(UTC) - timedelta(days=7, minutes=1)}),
        (TAG, {"end_time": datetime.now(UTC) + timedelta(days=1)}),
        (TAG, {"since_id": "1"}),
        (TAG, {"since_id": "abc"}),
        (TAG, {"next_token": "abc"}),
        (TAG, {"tweet_fields": ["likes"]}),
        (TAG, {"expansions": ["everything"]}),
    ],
)
def test_what_x_refuses_in_a_search_is_refused(x: StrictX, query: str, params: dict[str, Any]) -> None:
    with pytest.raises(tweepy.BadRequest) as refused:
        found(x, query, **params)
    assert problem_of(refused)["type"].endswith("invalid-request")


def test_pages_go_back_in_time_never_overlap_and_skip_nothing(x: StrictX) -> None:
    made = [x.say("other", f"{number} {TAG}") for number in range(35)]
    client, token, pages = by_tweepy(x), None, []
    while True:
        answer: Any = client.search_recent_tweets(TAG, max_results=10, next_token=token)
        pages.append([one["id"] for one in answer["data"]])
        if len(pages) == 1:
            x.say("other", f"meanwhile {TAG}")
        token = answer["meta"].get("next_token")
        if token is None:
            break
    assert [len(page) for page in pages] == [10, 10, 10, 5]
    assert list(chain(*pages)) == [post.id for post in reversed(made)]


def test_since_id_is_a_number_and_not_a_text(x: StrictX) -> None:
    first, second = x.say("other", f"1 {TAG}"), x.say("other", f"2 {TAG}")
    assert found(x, TAG, since_id=first.id) == [second.id]
    assert found(x, TAG, since_id=str(int(second.id) - 1)) == [second.id]
    assert found(x, TAG, until_id=second.id) == [first.id]


def test_what_is_young_is_shown_to_those_who_ask_since_an_id(x: StrictX) -> None:
    x.search_edge = timedelta(seconds=30)
    before, post = x.say("other", f"1 {TAG}", at=x.clock.now() - timedelta(hours=1)), x.say("other", f"2 {TAG}")
    assert found(x, TAG) == [before.id]
    assert found(x, TAG, since_id=before.id) == [post.id]


def test_a_post_that_comes_late_is_not_there_before(x: StrictX) -> None:
    post = x.say("other", f"late {TAG}", visible_after=timedelta(minutes=5))
    assert found(x, TAG) == []
    x.clock.move(timedelta(minutes=6))
    assert found(x, TAG) == [post.id]


@pytest.mark.parametrize("granularity", ["minute", "hour", "day"])
def test_counts_add_up_to_the_search(x: StrictX, granularity: str) -> None:
    now = x.clock.now()
    for hours in range(40):
        x.say("other", f"{hours} {TAG}", at=now - timedelta(hours=hours, minutes=7))
    x.repost("desk", x.say("other", f"again {TAG}").id)
    start = now - timedelta(days=3)
    answer: Any = by_tweepy(x).get_recent_tweets_count(TAG, granularity=granularity, start_time=start)
    assert sum(one["tweet_count"] for one in answer["data"]) == answer["meta"]["total_tweet_count"] == 41
    assert len(found(x, TAG, start_time=start, max_results=100)) == 41
    edges = [(one["start"], one["end"]) for one in answer["data"]]
    assert all(end == start for (_, end), (start, _) in pairwise(edges))


def test_reposts_are_read_from_the_post(x: StrictX) -> None:
    post = x.say("desk", f"1 {TAG}")
    repost = x.repost("other", post.id)
    client = by_tweepy(x)
    answer: Any = client.get_retweeters(post.id)
    assert [one["username"] for one in answer["data"]] == ["other"]
    posts = client.request("GET", f"/2/tweets/{post.id}/retweets", params={"tweet.fields": "referenced_tweets"}).json()
    assert [one["id"] for one in posts["data"]] == [repost.id]
    assert posts["data"][0]["referenced_tweets"] == [{"type": "retweeted", "id": post.id}]


def test_protected_and_deleted_posts_are_not_shown(x: StrictX) -> None:
    x.add_account("shy", protected=True)
    shy, gone = x.say("shy", f"1 {TAG}"), x.say("other", f"2 {TAG}")
    x.take_away(gone.id)
    assert found(x, TAG) == []
    answer: Any = by_tweepy(x).get_tweets([shy.id, gone.id])
    assert [one["type"].rpartition("/")[2] for one in answer["errors"]] == [
        "not-authorized-for-resource",
        "resource-not-found",
    ]


def test_an_edit_is_a_new_id_of_the_same_post(x: StrictX) -> None:
    first = x.say("other", f"befor {TAG}")
    second = x.edit(first.id, f"before {TAG}")
    answer: Any = by_tweepy(x).search_recent_tweets(TAG)
    assert [(one["id"], one["edit_history_tweet_ids"]) for one in answer["data"]] == [
        (second.id, [first.id, second.id])
    ]


# ── Money, limits, faults ────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_read_is_billed_once_a_day_and_a_failed_request_never(x: StrictX) -> None:
    now = x.clock.now()
    x.clock.move((now.replace(hour=12) - now) % timedelta(days=1))  # no midnight in between
    post = x.say("other", f"1 {TAG}")
    for _ in range(3):
        by_tweepy(x).search_recent_tweets(TAG, expansions=["author_id"])
    with pytest.raises(tweepy.BadRequest):
        found(x, "(")
    assert [(bill.what, bill.resource) for bill in x.billed] == [
        ("post read", f"post {post.id}"),
        ("author read", f"user {post.author}"),
    ]
    x.clock.move(timedelta(days=1))
    found(x, TAG)
    assert x.spent() == pytest.approx(0.005 + 0.010 + 0.005)


def test_an_empty_balance_answers_402_and_makes_nothing(x: StrictX) -> None:
    x.balance = 0.22
    client = by_tweepy(x, "desk")
    client.create_tweet(text="a https://example.org")
    client.create_tweet(text="b")
    with pytest.raises(tweepy.HTTPException) as refused:
        client.create_tweet(text="c")
    assert problem_of(refused)["title"] == "CreditsDepleted"
    assert len(x.standing("desk")) == 2
    assert x.spent() == pytest.approx(0.215)


def test_a_quarter_of_an_hour_has_its_limit(x: StrictX) -> None:
    x.limits["POST /2/tweets"] = 2
    client = by_tweepy(x, "desk")
    for number in range(2):
        client.create_tweet(text=f"{number}")
    with pytest.raises(tweepy.TooManyRequests) as refused:
        client.create_tweet(text="3")
    reset = int(refused.value.response.headers["x-rate-limit-reset"])
    assert 0 < reset - x.clock.now().timestamp() <= 900
    by_tweepy(x, "other").create_tweet(text="another account has its own")
    x.clock.move(timedelta(minutes=15))
    client.create_tweet(text="3")


@pytest.mark.parametrize(("kind", "made"), [("lose", 1), ("cut", 1), ("cut json", 1), ("list", 1), ("503", 0)])
def test_a_fault_strikes_as_often_as_it_should(x: StrictX, kind: str, made: int) -> None:
    x.fail("POST /2/tweets", kind)
    client = by_tweepy(x, "desk")
    with pytest.raises((requests.RequestException, tweepy.TweepyException, AttributeError)):
        tweepy.Client.create_tweet(client, text="1").get("data")  # type: ignore[union-attr]
    assert len(x.standing("desk")) == made
    client.create_tweet(text="2")


def test_a_write_may_be_read_late(x: StrictX) -> None:
    x.read_lag = timedelta(seconds=30)
    client = by_tweepy(x, "desk")
    client.create_tweet(text="1")
    timeline: Any = client.get_users_tweets(x.accounts["desk"].id, user_auth=True)
    assert timeline == {"meta": {"result_count": 0}}
    x.clock.move(timedelta(seconds=31))
    timeline = client.get_users_tweets(x.accounts["desk"].id, user_auth=True)
    assert timeline["meta"]["result_count"] == 1


# ── X's own SDK ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("names", ["tweet", "post"])
def test_its_own_sdk_posts_searches_and_counts(names: str) -> None:
    from xdk.posts.models import CreateRequest
    from xdk.schemas import CreatePostsReply

    with StrictX(names=names) as x:
        x.search_edge = timedelta(0)
        user, app = by_xdk(x), by_xdk(x, bearer_token=x.bearer_token)
        root = user.posts.create(CreateRequest(text=f"one {TAG}")).data.id
        answer = CreateRequest(text=f"two {TAG}", reply=CreatePostsReply(in_reply_to_tweet_id=root))
        reply = user.posts.create(answer).data.id
        for number in range(22):
            x.say("other", f"{number} {TAG}", like_count=number)
        # Its models want the new names inside of counts: where the server says the old ones they are not asked for.
        fields = ["created_at", "conversation_id", *(["public_metrics"] if names == "post" else [])]
        pages = list(app.posts.search_recent(TAG, max_results=10, post_fields=fields, expansions=["author_id"]))
        posts = [post for page in pages for post in page.data]
        assert [len(page.data) for page in pages] == [10, 10, 4]
        assert [post.id for post in posts[-2:]] == [reply, root]
        assert posts[-2].conversation_id == root
        assert {user.username for page in pages for user in page.includes.users} == {"desk", "other"}
        if names == "post":
            assert posts[0].public_metrics.repost_count == 0
            assert posts[0].edit_history_post_ids == [posts[0].id]
            (counts,) = app.posts.get_counts_recent(TAG, granularity="hour")
            assert sum(hour.post_count for hour in counts.data) == counts.meta.total_post_count == 24
        assert user.posts.delete(root).data.deleted
        assert [post.id for post in x.standing("desk")] == [reply]


def test_its_own_sdk_uploads_a_picture_in_pieces_with_its_alt_text(x: StrictX) -> None:
    from xdk.media.models import AppendUploadRequest, CreateMetadataRequest, InitializeUploadRequest
    from xdk.posts.models import CreateRequest
    from xdk.schemas import CreatePostsMedia

    x.processing = ("pending", "in_progress")
    user, content = by_xdk(x), png()
    begun = user.media.initialize_upload(
        InitializeUploadRequest(media_type="image/png", total_bytes=len(content), media_category="tweet_image")
    )
    id_ = begun.data.id
    half = len(content) // 2
    for index, piece in enumerate((content[:half], content[half:])):
        user.media.append_upload(id_, AppendUploadRequest(media=base64.b64encode(piece).decode(), segment_index=index))
    states = [user.media.finalize_upload(id_).data.processing_info.state]
    while states[-1] != "succeeded":
        states.append(user.media.get_upload_status(id_, command="STATUS").data.processing_info.state)
    assert states == ["pending", "in_progress", "succeeded"]
    user.media.create_metadata(
        CreateMetadataRequest.model_validate({"id": id_, "metadata": {"alt_text": {"text": "Ore"}}})
    )
    made = user.posts.create(CreateRequest(text="look", media=CreatePostsMedia(media_ids=[id_])))
    read = user.posts.get_by_id(
        made.data.id, expansions=["attachments.media_keys"], media_fields=["alt_text"], post_fields=["attachments"]
    )
    assert read.model_dump()["includes"]["media"][0]["alt_text"] == "Ore"
    assert read.data.attachments.media_keys == [f"3_{id_}"]


def test_its_own_sdk_logs_in_by_pkce_and_each_refresh_token_works_once(x: StrictX) -> None:
    login = {
        "client_id": x.client_id,
        "client_secret": x.client_secret,
        "redirect_uri": "http://127.0.0.1/back",
        "scope": ["tweet.read", "tweet.write", "users.read", "media.write", "offline.access"],
    }
    client = by_xdk(x, **login)
    client.get_authorization_url()
    token = client.exchange_code(x.authorize("desk", client.oauth2_auth.code_challenge))
    assert client.users.get_me().data.username == "desk"
    form = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"], "client_id": x.client_id}
    answers = [httpx.post(f"{x.url}/2/oauth2/token", data=form) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert answers[1].json()["error"] == "invalid_request"
    x.clock.move(timedelta(hours=2, seconds=1))
    with pytest.raises(requests.HTTPError, match="401"):
        client.users.get_me()


def test_media_in_the_wrong_order_or_too_old_is_refused(x: StrictX) -> None:
    client, content = by_tweepy(x, "desk"), png()

    def ask(route: str, body: object = None) -> int:
        try:
            return client.request("POST", f"/2/media/{route}", json=body, user_auth=True).status_code
        except tweepy.HTTPException as refused:
            return refused.response.status_code

    begin = {"media_type": "image/png", "total_bytes": len(content), "media_category": "tweet_image"}
    id_ = client.request("POST", "/2/media/upload/initialize", json=begin, user_auth=True).json()["data"]["id"]
    piece = {"media": base64.b64encode(content).decode(), "segment_index": 0}
    alt = {"id": id_, "metadata": {"alt_text": {"text": "Ore"}}}
    assert ask(f"upload/{id_}/finalize") == 400
    assert ask("metadata", alt) == 400
    assert ask(f"upload/{id_}/append", {**piece, "segment_index": 1_000}) == 400
    assert ask(f"upload/{id_}/append", piece) == 200
    with pytest.raises(tweepy.BadRequest, match="media IDs are invalid"):
        client.create_tweet(text="early", media_ids=[id_])
    assert ask(f"upload/{id_}/finalize") == 200
    assert ask("metadata", {**alt, "metadata": {"alt_text": {"text": "x" * 1_001}}}) == 400
    assert ask(f"upload/{id_}/append", {**piece, "segment_index": 1}) == 400
    x.clock.move(timedelta(days=1, seconds=1))
    with pytest.raises(tweepy.BadRequest, match="media IDs are invalid"):
        client.create_tweet(text="late", media_ids=[id_])


def png(side: int = 60) -> bytes:
    out = BytesIO()
    Image.effect_noise((side, side), 90).save(out, "PNG")
    return out.getvalue()


# ── As a process ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_runs_as_a_process_and_obeys(tmp_path) -> None:
    command = [sys.executable, "-m", "tests.servers.strict_x", "desk", "miner"]
    process = Process(command, log=tmp_path / "x.log", cwd=ROOT)
    told = process.start()
    try:
        said = httpx.post(f"{told['url']}/strict/say", json={"by": "miner", "text": f"Habari {TAG}"}).json()
        httpx.post(f"{told['url']}/strict/move", json={"seconds": 60})
        answer = httpx.get(
            f"{told['url']}/2/tweets/search/recent",
            params={"query": TAG},
            headers={"Authorization": f"Bearer {told['bearer']}"},
        ).json()
        assert [one["id"] for one in answer["data"]] == [said["id"]]
        state = httpx.get(f"{told['url']}/strict/state").json()
        assert state["posts"]["miner"] == [[said["id"], f"Habari {TAG}", ""]]
        assert json.dumps(state["billed"])
    finally:
        begun = time.monotonic()
        process.stop()
    assert time.monotonic() - begun < 5
