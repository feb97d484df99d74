"""Proves that what is kept of a delivery decides alike, and has no secret."""

from functools import partial
from urllib.parse import quote

import orjson
import pytest

from orchestrator import webhooks
from orchestrator.errors import RefusedError
from orchestrator.security.redact import Redactor
from orchestrator.webhooks.kept import credentials_of, kept_body, kept_query
from orchestrator.webhooks.push import Push, WebhookEvent
from tests.orchestrator.webhooks.deliveries import PUSHES, body_of

INTERPRET = partial(webhooks.interpret, WebhookEvent("github", "push", "1"))


def body(url: str, **fields: object) -> bytes:
    repository = {"name": "app", "full_name": "team/app", "clone_url": url}
    return orjson.dumps(
        {"ref": "refs/heads/main", "after": "a" * 40, "repository": repository, **fields}
    )


def kept(raw: bytes) -> str:
    redactor = Redactor()
    redactor.add_credentials(credentials_of(raw, INTERPRET))
    return kept_body(raw, INTERPRET, redactor.redact).decode()


def decided(raw: bytes) -> Push:
    found = INTERPRET(raw)
    assert isinstance(found, Push)
    return found


@pytest.mark.parametrize(
    "userinfo",
    ["user:hunter22", "hunter22", ":hunter22", "x@y:hunter22", 'u:"hunter22', "u:hun ter@hunter22"],
)
def test_the_user_information_of_a_clone_url_is_not_kept(userinfo: str) -> None:
    raw = body(f"https://{userinfo}@git.test/app.git")
    assert "hunter22" not in kept(raw)
    again, first = decided(kept(raw).encode()), decided(raw)
    assert again.clone_url == first.clone_url == "https://git.test/app.git"
    assert again.credentials
    assert first.credentials


@pytest.mark.parametrize(
    "spelled",
    [
        "https:\\/\\/user:hunter22@git.test\\/app.git",
        "https:\\u002f\\u002fuser\\u003ahunter22\\u0040git.test/app.git",
        "https://user:hunter\\u00322@git.test/app.git",
    ],
)
def test_however_it_is_escaped(spelled: str) -> None:
    raw = body("URL").replace(b"URL", spelled.encode())
    assert credentials_of(raw, INTERPRET) == "user:hunter22"
    assert "hunter" not in kept(raw)


def test_in_a_form_too() -> None:
    raw = b"payload=" + quote(body("https://user:hunter22@git.test/app.git")).encode()
    assert "hunter22" not in kept(raw)
    assert decided(kept(raw).encode()).clone_url == "https://git.test/app.git"


def test_wherever_else_in_the_body_they_stand() -> None:
    raw = body(
        "https://user:hunter22@git.test/app.git",
        token="hunter22",
        basic="dXNlcjpodW50ZXIyMg==",
        hook="https://other:pass-word@fairlead.test/webhook",
    )
    found = [each for each in ("hunter22", "pass-word", "dXNlcjpodW50ZXIyMg") if each in kept(raw)]
    assert found == []
    assert "https://***@fairlead.test/webhook" in kept(raw)


def test_a_slash_in_a_password_leaves_nothing_of_it() -> None:
    raw = body("https://user:hunter22/pass-word@git.test/app.git")
    assert "hunter22" not in kept(raw)
    assert "pass-word" not in kept(raw)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://git@git.test/app.git",
        "SSH://git@git.test:22/a@b",
        "git@git.test:app.git",
        "https://git.test/@scope/app.git",
        "https://git.test:8443/a@b.git",
        "file:///srv/a@b",
    ],
)
def test_a_url_without_a_secret_stays(url: str) -> None:
    assert decided(kept(body(url)).encode()).clone_url == url


def test_a_secret_that_is_a_name_of_the_push_is_left_there() -> None:
    """As where the webhook's secret is "main", and nothing could be deployed any more."""
    redactor = Redactor()
    redactor.add("main")
    raw = body("https://user:hunter22@git.test/app.git")
    text = kept_body(raw, INTERPRET, redactor.redact).decode()
    assert decided(text.encode()).branch == "main"
    assert "hunter22" not in text


@pytest.mark.parametrize("provider", sorted(PUSHES))
def test_a_push_of_any_provider_is_decided_as_before(provider: str) -> None:
    raw = body_of(PUSHES[provider])
    name = {"github": "push", "gitlab": "Push Hook", "gitea": "push", "bitbucket": "repo:push"}
    interpret = partial(webhooks.interpret, WebhookEvent(provider, name[provider], "1"))
    assert isinstance(interpret(raw), Push)
    assert interpret(kept_body(raw, interpret, Redactor().redact)) == interpret(raw)


DEEP = b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"payload=x", DEEP])
def test_what_is_no_json_is_not_kept(raw: bytes) -> None:
    with pytest.raises(RefusedError):
        kept_body(raw, INTERPRET, Redactor().redact)


def test_of_a_query_only_what_is_known_has_its_value() -> None:
    query = "domain=a.test&token=s3cret&wait=0&private_token=s3cret&x"
    assert kept_query(query, ("domain", "wait")) == "domain=a.test&token=&wait=0&private_token=&x="
