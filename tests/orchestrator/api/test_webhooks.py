"""Proves the way in for providers with a real server (security checklist, numbers 1 and 6)."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator import webhooks
from orchestrator.errors import RefusedError
from orchestrator.model import DeployState
from orchestrator.webhooks import inbox
from orchestrator.webhooks.kept import kept_body
from tests.orchestrator.surface import COMMIT, PATIENCE, SECRET, Surface, github, push, surface
from tests.orchestrator.webhooks.deliveries import body_of


async def stored(up: Surface) -> list[Any]:
    return await up.store.deliveries.page()


class TestAdmission:
    """Who may deliver."""

    def test_all_that_cannot_be_verified_gets_one_answer_and_leaves_no_trace(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_secret=SECRET) as up:
                body = push()
                good = github(body, SECRET)
                responses = [
                    await up.stranger.post("/webhook", content=body, headers=headers, params=query)
                    for headers, query in (
                        (github(body), {}),
                        (github(body, "another secret"), {}),
                        ({**good, "X-Hub-Signature-256": "sha256="}, {}),
                        ({"X-Hub-Signature": good["X-Hub-Signature-256"]} | github(body), {}),
                        ({"Content-Type": "application/json"}, {}),
                        ({"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": "wrong"}, {}),
                        (github(body), {"wait": "nonsense", "domain": "*"}),
                    )
                ]
                responses.append(
                    await up.stranger.post("/webhook", content=body + b" ", headers=good)
                )
                responses.append(
                    await up.stranger.post("/webhook", content=b"{", headers=github(b"["))
                )
                assert {answer.status_code for answer in responses} == {401}
                assert {answer.content for answer in responses} == {b'{"error":"unauthorized"}\n'}
                assert await stored(up) == []
                assert up.deploys.requests == []

        asyncio.run(scenario())

    def test_the_signature_is_over_the_raw_bytes_before_they_are_parsed(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_secret=SECRET) as up:
                answer = await up.delivers(b"{ this is no JSON")
                assert answer.status_code == 400
                (delivery,) = await stored(up)
                assert delivery.decision == "refused"
                # Nobody can tell where a secret is in what is no JSON: nothing of it is kept.
                assert delivery.body == b""
                assert answer.json()["error"].startswith("invalid JSON in the request body: ")
                again = await up.http.post(f"/api/webhooks/{delivery.id}/replay")
                assert (again.status_code, again.json()["error"]) == (400, answer.json()["error"])

        asyncio.run(scenario())

    def test_gitlabs_token_is_a_secret_that_is_not_kept(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_secret=SECRET) as up:
                headers = {"X-Gitlab-Event": "Issue Hook", "X-Gitlab-Token": SECRET}
                answer = await up.stranger.post("/webhook", content=b"{}", headers=headers)
                assert answer.status_code == 202, answer.text
                (delivery,) = await stored(up)
                assert SECRET not in str(delivery)

        asyncio.run(scenario())

    def test_without_a_secret_a_webhook_needs_a_token(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                tokens = {}
                for name, scope, apps in (
                    ("read", "read", ""),
                    ("limited", "deploy", "sim-app"),
                    ("deploy", "deploy", ""),
                ):
                    fields = {"name": name, "scope": scope, "apps": apps}
                    made = await up.http.post("/api/tokens", json=fields)
                    tokens[name] = made.json()["token"]
                for token in ("", "wrong", tokens["read"], tokens["limited"]):
                    refused = await self.unsigned(up, token)
                    assert refused.status_code == 403
                    assert refused.json() == {"error": "unauthorized"}
                assert await stored(up) == []
                assert (await self.unsigned(up, tokens["deploy"])).status_code == 202
                assert (await up.operator.post(
                    "/webhook?wait=0", content=push(), headers=github(push())
                )).status_code == 202  # fmt: skip

        asyncio.run(scenario())

    def test_without_a_secret_a_ping_is_answered_and_not_kept(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                for headers in ({"X-GitHub-Event": "ping"}, {"X-Event-Key": "diagnostics:ping"}):
                    answer = await up.stranger.post("/webhook", content=b"{}", headers=headers)
                    assert (answer.status_code, answer.text) == (200, "pong")
                assert await stored(up) == []

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "headers",
        [
            {"X-Forwarded-For": "127.0.0.1"},
            {"Forwarded": "for=127.0.0.1"},
            {"Via": "1.1 edge"},
            {"Host": "rebound.test"},
            {"Origin": "http://evil.test"},
        ],
    )
    def test_unsigned_ones_are_accepted_from_direct_clients_here_where_that_is_set(
        self, tmp_path: Path, headers: dict[str, str]
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_unsigned="true") as up:
                answer = await self.unsigned(up, **headers)
                assert answer.status_code == 403
                assert answer.json() == {"error": "unauthorized"}
                assert await stored(up) == []
                assert (await self.unsigned(up)).status_code == 202

        asyncio.run(scenario())

    def test_where_there_is_a_secret_unsigned_ones_are_not_accepted(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_unsigned="true", webhook_secret=SECRET) as up:
                assert (await self.unsigned(up)).status_code == 401
                # A token of the sender's own suffices, and a wrong one spoils no signature.
                assert (await self.unsigned(up, up.token)).status_code == 202
                signed = github(push(), SECRET) | {"Authorization": "Bearer wrong"}
                answer = await up.stranger.post("/webhook?wait=0", content=push(), headers=signed)
                assert answer.status_code == 202

        asyncio.run(scenario())

    @staticmethod
    async def unsigned(up: Surface, token: str = "", **headers: str) -> Any:
        """A push without a signature."""
        given = github(push()) | headers | ({"Authorization": f"Bearer {token}"} if token else {})
        return await up.stranger.post("/webhook?wait=0", content=push(), headers=given)

    def test_a_body_over_the_cap_gets_413_declared_or_not(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async def pieces() -> Any:
                for _ in range(40):
                    yield b"x" * 65536

            async with surface(tmp_path, webhook_max_body="1MiB") as up:
                whole = await up.http.post(
                    "/webhook", content=b"x" * (2**20 + 1), headers=github(b"")
                )
                chunked = await up.http.post("/webhook", content=pieces(), headers=github(b""))
                asked = await up.http.post(
                    "/webhook",
                    content=b"x" * (2**20 + 1),
                    headers=github(b"") | {"Expect": "100-continue"},
                )
                responses = (whole, chunked, asked)
                assert [answer.status_code for answer in responses] == [413, 413, 413]
                assert await stored(up) == []

        asyncio.run(scenario())

    def test_too_many_from_one_address_get_429_before_anything_else(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            settings: dict[str, Any] = {"webhook_rps": "0.001", "webhook_burst": "2"}
            settings |= {"webhook_secret": SECRET, "trusted_proxies": "127.0.0.0/8"}
            async with surface(tmp_path, **settings) as up:

                async def ask(address: str) -> Any:
                    return await up.stranger.post(
                        "/webhook", content=b"", headers={"X-Forwarded-For": address}
                    )

                assert [(await ask("192.0.2.1")).status_code for _ in range(3)] == [401, 401, 429]
                late = await ask("192.0.2.1")
                assert int(late.headers["Retry-After"]) > 1
                assert (await ask("192.0.2.2")).status_code == 401
                # IPv6 counts by /64
                many = [(await ask(f"2001:db8::{n}")).status_code for n in range(3)]
                assert many == [401, 401, 429]

        asyncio.run(scenario())

    def test_x_forwarded_for_of_nobody_who_is_trusted_changes_nothing(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            settings: dict[str, Any] = {"webhook_rps": "0.001", "webhook_burst": "2"}
            async with surface(tmp_path, webhook_secret=SECRET, **settings) as up:
                found = [
                    (
                        await up.stranger.post(
                            "/webhook", content=b"", headers={"X-Forwarded-For": f"192.0.2.{n}"}
                        )
                    ).status_code
                    for n in range(3)
                ]
                assert found == [401, 401, 429]

        asyncio.run(scenario())


class TestAnswers:
    """What a sender is told."""

    def test_a_ping_gets_pong(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                answer = await up.delivers(b"{}", {"X-GitHub-Event": "ping"})
                assert (answer.status_code, answer.text) == (200, "pong")

        asyncio.run(scenario())

    def test_a_deploy_that_is_live_in_time_gets_200_and_godeploys_fields(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                asked = asyncio.create_task(up.push(wait="30", health_path="/healthz"))
                await up.deploys.are(1)
                await up.deploys.ends(1, DeployState.LIVE, target="127.0.0.1:4000")
                answer = await asked
                assert answer.status_code == 200
                told = answer.json()
                assert told["routed_target"] == "127.0.0.1:4000"
                assert (told["app"], told["commit"], told["deploy_id"]) == ("sim-app", COMMIT, 1)
                (delivery,) = await stored(up)
                assert (delivery.decision, delivery.status, delivery.deploy) == ("deploy", 200, 1)

        asyncio.run(scenario())

    def test_a_deploy_that_failed_in_time_gets_500_without_internals(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                asked = asyncio.create_task(up.push(wait="30"))
                await up.deploys.are(1)
                await up.deploys.ends(1, DeployState.FAILED, error="bang at /internal/path")
                answer = await asked
                assert answer.status_code == 500
                assert answer.json()["error"] == "deploy failed"
                assert answer.json()["deploy_id"] == 1
                assert "bang" not in answer.text

        asyncio.run(scenario())

    def test_a_deploy_that_goes_on_gets_202_and_where_to_look(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                answer = await up.push(wait="0")
                assert answer.status_code == 202
                assert answer.headers["Location"] == "/api/deploys/1"
                found = await up.http.get(answer.headers["Location"])
                assert found.json()["state"] == "queued"

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("query", "word"),
        [
            ({"wiat": "3"}, "wiat"),
            ({"wait": "31"}, "wait"),
            ({"wait": "nan"}, "wait"),
            ({"domain": "*.test"}, "wildcard"),
            ({"domain": "127.0.0.1"}, "127.0.0.1"),
            ({"health_path": "//evil.test"}, "health path"),
            ({"branch": "--upload-pack=x"}, "upload-pack"),
        ],
    )
    def test_a_query_that_cannot_be_meant_gets_400(
        self, tmp_path: Path, query: dict[str, Any], word: str
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                answer = await up.push(**query)
                assert answer.status_code == 400
                assert word in answer.json()["error"]
                assert up.deploys.requests == []

        asyncio.run(scenario())

    def test_what_is_ignored_tells_why_and_is_kept(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_secret=SECRET) as up:
                answer = await up.delivers(push(ref="refs/heads/feature"))
                assert answer.status_code == 202
                assert "feature" in answer.json()["reason"]
                (delivery,) = await stored(up)
                assert (delivery.decision, delivery.reason) == ("ignored", answer.json()["reason"])
                other = await up.delivers(
                    push(ref="refs/heads/feature"), branch="feature", wait="0"
                )
                # The same signed bytes are the same delivery where the provider sends no id of it.
                assert other.json() == answer.json()
                third = await up.delivers(
                    push(ref="refs/heads/feature"),
                    {"X-GitHub-Delivery": "3"},
                    branch="feature",
                    wait="0",
                )
                assert "deploy_id" in third.json()

        asyncio.run(scenario())

    def test_a_refused_deploy_tells_why(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                up.deploys.fails_with = RefusedError("the domain is another app's", 409)
                answer = await up.push()
                assert (answer.status_code, answer.json()["error"]) == (
                    409,
                    "the domain is another app's",
                )

        asyncio.run(scenario())

    def test_an_error_of_ours_tells_nothing_and_leaves_the_delivery_to_be_decided(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                up.deploys.fails_with = ZeroDivisionError("internals")
                answer = await up.push()
                assert answer.status_code == 500
                assert "internals" not in answer.text
                up.deploys.fails_with = None
                assert (await up.push(wait="0")).json()["deploy_id"] == 1

        asyncio.run(scenario())

    def test_file_urls_are_for_the_operator_and_under_folders_that_are_named(
        self, tmp_path: Path
    ) -> None:
        def body(url: str) -> bytes:
            return push(repository={"name": "sim-app", "clone_url": url})

        async def scenario() -> None:
            repos = tmp_path / "repos"
            repos.mkdir()
            (repos / "out").symlink_to("/srv")
            settings: dict[str, Any] = {"webhook_secret": SECRET, "local_repos": str(repos)}
            async with surface(tmp_path, **settings) as up:
                outside = (
                    "file:///srv/sim",
                    f"file://{repos}/../sim",
                    f"file://{repos}/%2e%2e/sim",
                    f"file://{repos}/out/sim",
                    f"file://{repos}-other/sim",
                    f"file://localhost{repos}/sim",
                )
                for number, url in enumerate(outside):
                    refused = await up.delivers(body(url), {"X-GitHub-Delivery": str(number)})
                    assert refused.status_code == 422, url
                    assert "file://" in refused.json()["error"]
                assert up.deploys.requests == []
                inside = await up.delivers(body(f"file://{repos}/sim"), wait="0")
                assert inside.status_code == 202
                assert up.deploys.requests[0].allow_file
                replayed = await up.http.post("/api/webhooks/1/replay")
                assert replayed.status_code == 422
                by_operator = await up.operator.post("/api/webhooks/1/replay")
                assert by_operator.status_code == 202
                assert up.deploys.requests[1].clone_url == outside[0]

        asyncio.run(scenario())


class TestGitHubsPayloads:
    """What GitHub really sends, signed as it does, gets the right decision."""

    @pytest.mark.parametrize(
        ("name", "event", "status", "decision", "word"),
        [
            ("ping", "ping", 200, "pong", ""),
            ("push-new-branch", "push", 202, "deploy", ""),
            ("push-tag-deleted", "push", 202, "ignored", "simple-tag"),
        ],
    )
    def test_each_is_decided_with_its_reason(
        self, tmp_path: Path, name: str, event: str, status: int, decision: str, word: str
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_secret=SECRET) as up:
                answer = await up.delivers(
                    body_of(f"github/{name}"), {"X-GitHub-Event": event}, wait="0"
                )
                assert answer.status_code == status, answer.text
                (delivery,) = await stored(up)
                assert (delivery.event, delivery.decision) == (event, decision)
                assert word in delivery.reason
                commits = [request.commit for request in up.deploys.requests]
                built = ["6113728f27ae82c7b1a177c8d03f9e96e0adf246"]
                assert commits == (built if decision == "deploy" else [])

        asyncio.run(scenario())


class TestInbox:
    """A delivery is acted on once."""

    def test_a_second_delivery_of_one_id_gets_the_first_ones_result(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                same = {"X-GitHub-Delivery": "72d3162e"}
                asked = [asyncio.create_task(up.push(same, wait="30")) for _ in range(5)]
                await up.deploys.are(1)
                await up.deploys.ends(1, DeployState.LIVE)
                responses = [await each for each in asked]
                assert {answer.status_code for answer in responses} == {200}
                assert {answer.json()["deploy_id"] for answer in responses} == {1}
                assert (await up.push(same)).json() == responses[0].json()
                assert len(up.deploys.requests) == 1
                assert len(await stored(up)) == 1

        asyncio.run(scenario())

    def test_a_client_that_hangs_up_cancels_nothing(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                body = push()
                lines = [f"{name}: {text}" for name, text in github(body).items()]
                head = "\r\n".join(
                    [
                        "POST /webhook?wait=30 HTTP/1.1",
                        f"Host: 127.0.0.1:{up.port}",
                        f"Content-Length: {len(body)}",
                        f"Authorization: Bearer {up.token}",
                        *lines,
                    ]
                )
                _, writer = await asyncio.open_connection("127.0.0.1", up.port)
                writer.write(head.encode() + b"\r\n\r\n" + body)
                await writer.drain()
                writer.transport.abort()
                await up.deploys.are(1)
                await up.deploys.ends(1, DeployState.LIVE)
                async with asyncio.timeout(PATIENCE):
                    while (await stored(up))[0].status != 200:  # noqa: ASYNC110  nobody tells
                        await asyncio.sleep(0)
                assert (await stored(up))[0].decision == "deploy"

        asyncio.run(scenario())

    def test_what_a_crash_left_undecided_is_decided_by_the_next_start(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                headers = {":query": "domain=sim.test&wait=5", ":local": "yes"}
                await up.store.deliveries.add("github", "crashed", "push", headers, push())
                await up.inbox.resume()
                assert up.deploys.requests[0].domain == "sim.test"
                (delivery,) = await stored(up)
                assert (delivery.decision, delivery.deploy) == ("deploy", 1)
                await up.inbox.resume()
                assert len(up.deploys.requests) == 1

        asyncio.run(scenario())

    def test_who_takes_a_delivery_may_be_cancelled_and_it_is_decided_all_the_same(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                incoming = webhooks.WebhookEvent("github", "push", "1")
                taking = asyncio.create_task(
                    up.inbox.receive(incoming, {}, push(), "", by_operator=True, is_signed=False)
                )
                await asyncio.sleep(0)
                taking.cancel()
                await asyncio.wait({taking})
                await up.inbox.finish()
                assert (await stored(up))[0].deploy == 1

        asyncio.run(scenario())

    def test_what_comes_while_it_stops_is_left_to_the_next_start(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                up.deploys.fails_with = RefusedError("the orchestrator is shutting down", 503)
                assert (await up.push()).status_code == 503
                assert (await stored(up))[0].decision == ""
                up.deploys.fails_with = None
                await up.inbox.resume()
                assert (await stored(up))[0].deploy == 1

        asyncio.run(scenario())

    def test_a_crash_between_deploy_and_decision_deploys_nothing_twice(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                same = {"X-GitHub-Delivery": "twice"}
                await up.push(same, wait="0")
                # As the crash would have left it: the deploy is there, the decision is not.
                await up.store.deliveries.set_decision(1, "", "", 0)
                assert (await up.push(same, wait="0")).json()["deploy_id"] == 1
                assert len(up.deploys.requests) == 1

        asyncio.run(scenario())

    def test_a_replay_is_a_delivery_of_its_own_with_the_same_wishes(self, tmp_path: Path) -> None:
        async def scenario() -> None:
            async with surface(tmp_path) as up:
                await up.push(domain="sim.test", wait="0")
                answer = await up.http.post("/api/webhooks/1/replay")
                assert answer.status_code == 202
                assert answer.json()["deploy_id"] == 2
                again = up.deploys.requests[1]
                assert (again.domain, again.commit, again.operator) == ("sim.test", COMMIT, True)
                listed = (await up.http.get("/api/webhooks")).json()["webhooks"]
                assert [(row["id"], row["replay_of"]) for row in listed] == [(2, 1), (1, None)]
                assert (await up.http.post("/api/webhooks/9/replay")).status_code == 404

        asyncio.run(scenario())

    def test_an_app_takes_no_domain_and_no_health_path_from_a_query_that_is_not_signed(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            async with surface(tmp_path, webhook_secret=SECRET) as up:
                first = {"domain": "sim.test", "health_path": "/up", "wait": "0"}
                assert (await up.push(None, **first)).status_code == 202
                changed = {"domain": "evil.test", "health_path": "/down", "wait": "0"}
                refused = await up.push({"X-GitHub-Delivery": "2"}, **changed)
                assert refused.status_code == 409
                assert "--domain evil.test" in refused.json()["error"]
                changed["domain"] = "sim.test"
                again = await up.push({"X-GitHub-Delivery": "3"}, **changed)
                assert again.status_code == 202
                assert [each.health_path for each in up.deploys.requests] == ["/up", ""]
                (app,) = (await up.http.get("/api/apps")).json()["apps"]
                assert (app["domains"], app["health_path"]) == (["sim.test"], "/up")
                # Who has a token, or repeats a delivery on purpose, is believed.
                replayed = await up.http.post("/api/webhooks/2/replay")
                assert replayed.status_code == 202
                assert up.deploys.requests[-1].domain == "evil.test"

        asyncio.run(scenario())

    def test_others_are_answered_while_a_delivery_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began, answered = threading.Event(), threading.Event()

        def slow(*given: Any) -> bytes:
            began.set()
            assert answered.wait(PATIENCE)
            return kept_body(*given)

        monkeypatch.setattr(inbox, "kept_body", slow)

        async def scenario() -> None:
            async with surface(tmp_path) as up:
                delivering = asyncio.create_task(up.delivers(push(), wait="0"))
                assert await asyncio.to_thread(began.wait, PATIENCE)
                assert (await up.stranger.get("/healthz")).is_success
                answered.set()
                assert (await delivering).status_code == 202

        asyncio.run(scenario())

    def test_a_delivery_is_kept_without_credentials_and_replayed_with_them(
        self, tmp_path: Path
    ) -> None:
        async def scenario() -> None:
            url = "https://user:pass-word-1@git.test/owner/sim-app.git"
            body = push(repository={"name": "sim-app", "clone_url": url})
            async with surface(tmp_path) as up:
                assert (await up.delivers(body, wait="0", access_token="s3cret")).status_code == 400
                assert (await up.delivers(body, {"X-GitHub-Delivery": "2"}, wait="0")).is_success
                for number in (1, 2):
                    shown = await up.http.get(f"/api/webhooks/{number}")
                    assert "pass-word-1" not in shown.text
                    assert "s3cret" not in shown.text
                    assert json.loads(shown.json()["body"])["after"] == COMMIT
            # A process that has not seen the secret yet.
            async with surface(tmp_path) as up:
                assert (await up.http.post("/api/webhooks/2/replay")).is_success
                assert up.deploys.requests[0].credentials == "user:pass-word-1"
            # As where a backup was restored.
            for path in (tmp_path / "fairlead.state.credentials").iterdir():
                path.unlink()
            async with surface(tmp_path) as up:
                lost = await up.http.post("/api/webhooks/2/replay")
                assert lost.status_code == 409
                assert "push again" in lost.json()["error"]

        asyncio.run(scenario())
        for path in tmp_path.glob("fairlead*.db*"):
            assert b"pass-word-1" not in path.read_bytes()
            assert b"s3cret" not in path.read_bytes()
