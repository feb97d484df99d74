"""Proves `orchestrator.webhooks`: whose delivery it is, whether it is genuine, what is kept."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import webhooks
from orchestrator.errors import RefusedError
from orchestrator.webhooks.push import Ignored, WebhookEvent
from tests.orchestrator.webhooks.deliveries import HEADS, PROOFS, PUSHES, SECRET, body_of, hmac_of

every_provider = pytest.mark.parametrize("provider", list(HEADS))

IDS = {
    "github": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "gitlab": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
    "gitea": "f6266f16-1bf3-46a5-9ea4-602e06ead473",
    "bitbucket": "07606ab4-601c-4ca4-8c93-b979d3c7b3a1",
}


def arrival(provider: str) -> tuple[WebhookEvent, dict[str, str], bytes]:
    """A push as the provider sends it, and who is recognised in it."""
    body = body_of(PUSHES[provider])
    headers = HEADS[provider](body)
    incoming = webhooks.identify(headers, body)
    assert incoming is not None
    return incoming, headers, body


class TestRecognition:
    @every_provider
    def test_each_provider_is_known_by_its_own_headers(self, provider: str) -> None:
        incoming, headers, body = arrival(provider)
        assert incoming.provider == provider
        assert incoming.delivery_id == IDS[provider]
        assert not isinstance(webhooks.interpret(incoming, body), Ignored)
        assert webhooks.verify(incoming, headers, body, SECRET)

    def test_a_request_of_nobody_s_is_not_recognised(self) -> None:
        assert webhooks.identify({"content-type": "application/json"}, b"{}") is None

    @every_provider
    def test_a_delivery_without_an_id_is_known_by_its_content(self, provider: str) -> None:
        _, headers, body = arrival(provider)
        bare = {name: value for name, value in headers.items() if value not in _ids(headers)}
        first = webhooks.identify(bare, body)
        other = webhooks.identify(bare, body + b" ")
        assert first == webhooks.identify(bare, body)
        assert first is not None
        assert other is not None
        assert first.delivery_id.startswith("sha256:")
        assert first.delivery_id != other.delivery_id

    def test_the_same_body_of_two_providers_is_two_deliveries(self) -> None:
        ids = {
            found.delivery_id
            for headers in ({"x-github-event": "push"}, {"x-gitea-event": "push"})
            if (found := webhooks.identify(headers, b"{}"))
        }
        assert len(ids) == 2

    def test_branches_of_one_push_to_an_old_gitlab_are_two_deliveries(self) -> None:
        headers = {"x-gitlab-event": "Push Hook", "x-gitlab-event-uuid": "one-for-both"}
        first, again, other = (
            webhooks.identify(headers, body) for body in (b'{"a":1}', b'{"a":1}', b'{"a":2}')
        )
        assert first == again != other

    @pytest.mark.parametrize("sent", ["", "x" * 201, "a\nb", "ü"])
    def test_an_id_that_cannot_be_one_is_not_taken(self, sent: str) -> None:
        headers = {"x-github-event": "push", "x-github-delivery": sent}
        found = webhooks.identify(headers, b"{}")
        assert found is not None
        assert found.delivery_id.startswith("sha256:")

    def test_security_7_an_event_s_name_stays_on_its_line(self) -> None:
        found = webhooks.identify({"x-github-event": "a\r\nb\x1b[2J" + "c" * 200}, b"{}")
        assert found is not None
        assert found.name == ("a??b?[2J" + "c" * 200)[:100]
        verdict = webhooks.interpret(found, b"not even JSON")
        assert verdict == Ignored(f"event {found.name} is not a push")


def _ids(headers: dict[str, str]) -> list[str]:
    names = ("x-github-delivery", "idempotency-key", "x-gitlab-event-uuid", "x-gitea-delivery")
    return [headers.get(name, "") for name in (*names, "x-request-uuid")]


class TestSecurity1Proof:
    """HMAC over the raw bytes before parsing; digests of both sides of GitLab's token."""

    @every_provider
    def test_another_secret_is_refused(self, provider: str) -> None:
        incoming, headers, body = arrival(provider)
        assert not webhooks.verify(incoming, headers, body, SECRET + "x")
        assert not webhooks.verify(incoming, headers, body, SECRET[:-1])

    @every_provider
    @pytest.mark.parametrize("wrong", ["", "sha256=", "sha256=00", "x", "\xff", "é\U0001f600"])
    def test_a_wrong_or_missing_proof_is_refused(self, provider: str, wrong: str) -> None:
        incoming, headers, body = arrival(provider)
        assert not webhooks.verify(incoming, headers | {PROOFS[provider]: wrong}, body, SECRET)
        del headers[PROOFS[provider]]
        assert not webhooks.verify(incoming, headers, body, SECRET)

    @pytest.mark.parametrize("provider", ["github", "gitea", "bitbucket"])
    def test_one_byte_more_or_less_is_refused(self, provider: str) -> None:
        incoming, headers, body = arrival(provider)
        assert not webhooks.verify(incoming, headers, body + b"\n", SECRET)
        assert not webhooks.verify(incoming, headers, body.replace(b"  ", b" ", 1), SECRET)

    def test_the_signature_by_sha_1_does_not_suffice_for_github(self) -> None:
        incoming, headers, body = arrival("github")
        sha1 = headers["x-hub-signature"]
        del headers["x-hub-signature-256"]
        assert not webhooks.verify(incoming, headers, body, SECRET)
        assert not webhooks.verify(incoming, headers | {"x-hub-signature-256": sha1}, body, SECRET)

    def test_gitea_is_not_proven_by_the_headers_of_github(self) -> None:
        incoming, headers, body = arrival("gitea")
        del headers["x-gitea-signature"]
        assert not webhooks.verify(incoming, headers, body, SECRET)

    def test_each_wants_its_own_form_of_the_signature(self) -> None:
        incoming, headers, body = arrival("github")
        bare = headers | {"x-hub-signature-256": hmac_of(body)}
        assert not webhooks.verify(incoming, bare, body, SECRET)
        incoming, headers, body = arrival("gitea")
        prefixed = headers | {"x-gitea-signature": f"sha256={hmac_of(body)}"}
        assert not webhooks.verify(incoming, prefixed, body, SECRET)

    def test_a_secret_may_have_any_letters(self) -> None:
        body, secret = b"{}", "pässwörd-日本"
        for provider, heads in HEADS.items():
            headers = heads(body, secret=secret)
            # As a server hands over the bytes that came.
            headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
            incoming = webhooks.identify(headers, body)
            assert incoming is not None
            assert webhooks.verify(incoming, headers, body, secret), provider


class TestSecurity7KeptHeaders:
    """Secrets never reach the inbox."""

    @every_provider
    def test_what_proves_a_delivery_is_not_kept(self, provider: str) -> None:
        _, headers, _ = arrival(provider)
        secrets = {"authorization": "Basic eA==", "cookie": "a=b", "x-api-key": "k"}
        kept = webhooks.stored_headers(headers | secrets)
        assert PROOFS[provider] not in kept
        assert not secrets.keys() & kept.keys()
        assert not any("signature" in name or "token" in name for name in kept)
        assert SECRET not in kept.values()

    @every_provider
    def test_what_tells_deliveries_apart_is_kept(self, provider: str) -> None:
        incoming, headers, body = arrival(provider)
        kept = webhooks.stored_headers(headers)
        assert webhooks.identify(kept, body) == incoming

    def test_values_are_bounded(self) -> None:
        assert len(webhooks.stored_headers({"user-agent": "x" * 10_000})["user-agent"]) == 500


class TestHostileBodies:
    @every_provider
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b"1",
            b'"x"',
            b"{",
            b"\xff\xfe",
            b'{"ref": NaN}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"payload=",
            b"payload=%7B",
            b"payload=\xff",
            b"payload=a&" * 20,
        ],
    )
    def test_what_is_no_json_object_is_refused(self, provider: str, body: bytes) -> None:
        incoming, _, _ = arrival(provider)
        with pytest.raises(RefusedError, match=r"JSON|form|payload") as caught:
            webhooks.interpret(incoming, body)
        assert caught.value.status == 400

    @every_provider
    def test_an_empty_object_is_refused_with_what_it_lacks(self, provider: str) -> None:
        incoming, _, _ = arrival(provider)
        with pytest.raises(RefusedError, match=r"payload field .* is missing") as caught:
            webhooks.interpret(incoming, b"{}")
        assert caught.value.status == 400

    @every_provider
    @given(data=st.data())
    def test_any_field_may_be_of_any_kind(self, provider: str, data: st.DataObject) -> None:
        incoming, _, _ = arrival(provider)
        body = body_of(PUSHES[provider])
        fields = _broken(orjson.loads(body), data)
        statuses: set[int] = set()
        try:
            webhooks.interpret(incoming, orjson.dumps(fields))
        except RefusedError as error:
            statuses.add(error.status)
        assert statuses <= {400}


def _broken(value: object, data: st.DataObject) -> object:
    """The same with one thing in it replaced by another."""
    if data.draw(st.integers(0, 3)) and isinstance(value, dict) and value:
        name = data.draw(st.sampled_from(list(value)))
        return value | {name: _broken(value[name], data)}
    if data.draw(st.integers(0, 3)) and isinstance(value, list) and value:
        return [_broken(value[0], data), *value[1:]]
    return data.draw(st.sampled_from([None, True, 0, "", "\n", "refs/heads/-x", [], [1], {}]))
