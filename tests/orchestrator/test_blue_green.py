"""Deploys under load: wrk asks through the edge all the while, and not one request fails."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.repository import Repository, serving
from tests.process import Process
from tests.programs import needs, path_of


@needs("wrk")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deploys", [4, pytest.param(20, marks=pytest.mark.chaos)])
def test_no_request_fails_while_versions_change(
    conversation: Conversation, tmp_path: Path, engine_host: str, deploys: int
) -> None:
    edge = Process(conversation, tmp_path / "fairlead.db")
    daemon = Daemon(conversation, edge.db, engine_host).starts()
    repository = Repository(tmp_path / "app")
    repository.commits(serving("0"))
    daemon.deploys(repository, "app", domain="app.test")
    script = tmp_path / "host.lua"
    script.write_text(
        'wrk.headers["Host"] = "app.test"\n'
        "function setup(thread) thread:set('bad', 0) end\n"
        "function response(status) if status ~= 200 then bad = bad + 1 end end\n"
        "threads = {}\n"
        "local known = setup\n"
        "function setup(thread) known(thread); table.insert(threads, thread) end\n"
        "function done() local sum = 0\n"
        "for _, thread in ipairs(threads) do sum = sum + thread:get('bad') end\n"
        "print('bad answers: ' .. sum) end\n"
    )
    wrk = subprocess.Popen(
        [
            path_of("wrk"),
            "-t1",
            "-c8",
            "-d280s",
            # Longer than anything takes on a machine that also builds: what is later is lost.
            "--timeout=30s",
            "--latency",
            f"--script={script}",
            f"http://127.0.0.1:{edge.port}/",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        receipts = []
        for number in range(1, deploys + 1):
            repository.commits(serving(str(number)))
            receipts.append(daemon.deploys(repository, "app", domain="app.test"))
    finally:
        # wrk reports what it has counted when it is interrupted.
        wrk.send_signal(2)
        said, _ = wrk.communicate(timeout=60)
    conversation.says("wrk", said)
    assert "bad answers: 0\n" in said
    assert "Socket errors" not in said
    requests = re.search(r"(\d+) requests in", said)
    assert requests is not None
    assert int(requests[1]) > 100 * deploys
    for cutover in receipts:
        assert cutover["cutover"]["workers"] == 2
        assert cutover["cutover"]["cut"] == 0
