"""security.md 7, from end to end: a signed push of a private repository, and where its secrets are
not: in no log, no answer, no image, no container."""

from pathlib import Path

import orjson
import pytest

from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.git_server import make_certificate, serving
from tests.orchestrator.repository import Repository
from tests.orchestrator.repository import serving as app_serving
from tests.orchestrator.webhooks import deliveries
from tests.process import ask

PASSWORD = "p4ss/w+rd-of-git"
TOKEN = "token-of-the-api-0123456789"


def test_secrets_of_a_private_repository_are_shown_nowhere(
    conversation: Conversation,
    tmp_path: Path,
    engine_host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate[1]))
    monkeypatch.setenv("NO_PROXY", "*")
    repository = Repository(tmp_path / "git" / "app")
    files = app_serving("one")
    # An app that says a secret in its build, as with a `set -x` too many.
    files["Dockerfile"] += f"RUN echo {PASSWORD}; echo {deliveries.SECRET}\n"
    commit = repository.commits(files)
    with serving(tmp_path / "git", certificate) as server:
        server.password = f"deployer:{PASSWORD}"
        daemon = Daemon(
            conversation,
            tmp_path / "fairlead.db",
            engine_host,
            webhook_secret=deliveries.SECRET,
            api_token=TOKEN,
        ).starts()
        quoted = PASSWORD.replace("/", "%2F").replace("+", "%2B")
        url = server.url.replace("https://", f"https://deployer:{quoted}@")
        body = orjson.dumps(
            {
                "ref": "refs/heads/main",
                "after": commit,
                "repository": {"name": "app", "clone_url": f"{url}/app/.git"},
            }
        )
        url = f"{daemon.url}/webhook?wait=30"
        answer = ask("POST", url, content=body, headers=deliveries.github(body))
        assert answer.status_code == 200, daemon.said()
    secrets = {PASSWORD, quoted, deliveries.SECRET, TOKEN}
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    paths = ("/api/deploys/1", "/api/deploys/1/log", "/api/deploys", "/api/apps", "/api/webhooks/1")
    (container,) = daemon.containers()
    log = daemon.get("/api/deploys/1/log", headers=bearer).text
    assert "RUN echo ***" in log
    shown = {path: daemon.get(path, headers=bearer).text for path in paths} | {
        "the answer": answer.text,
        "the log": daemon.said(),
        "the deploy's log": "".join(
            path.read_text() for path in daemon.db.with_suffix(".deploys").iterdir()
        ),
        "the container": str(container.attrs["Config"]["Env"]),
    }
    for where, text in shown.items():
        assert not [secret for secret in secrets if secret in text], where
    assert ask("GET", f"{daemon.url}/api/deploys").status_code == 401
