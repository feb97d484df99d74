"""What a machine with a small disk sees of many deploys: room, or why there is none."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.engine.container import LABEL_INSTANCE
from tests.harness import Conversation
from tests.orchestrator import docker_engine
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.docker_engine import EngineProcess
from tests.orchestrator.repository import Repository, serving
from tests.orchestrator.soak import deploys_again_and_again, levels_off, rows
from tests.process import Process

MIB = 2**20
DISK = 128 * MIB
SOAK_DEPLOYS = int(os.environ.get("SOAK_DEPLOYS", "1000"))
SOAK_PAYLOAD = 24 * MIB
SOAK_DISK = max(400_000_000, SOAK_DEPLOYS * 10_000_000)
"""Bytes: 10 GB for 1,000 deploys, which together make 36 GB."""


# They share an engine: it takes seconds to start.
pytestmark = pytest.mark.xdist_group("small_engine")


@pytest.fixture(scope="module")
def small_engine(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """An engine with a disk of its own, of DISK bytes or as the test says."""
    lacks = docker_engine.what_is_missing()
    if lacks:
        pytest.skip(f"no engine of our own: {lacks}")
    with docker_engine.of_our_own(disk=getattr(request, "param", DISK)) as engine:
        yield engine


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "app")


def images(daemon: Daemon) -> set[str]:
    """The ids of all images of the engine that somebody could use: no layers of others."""
    return {image["Id"] for image in daemon.engine.api.images()}


@pytest.mark.timeout(180)  # many builds in a row
def test_a_few_deploys_leave_what_is_kept_and_no_more(
    small_engine: EngineProcess, conversation: Conversation, tmp_path: Path, repository: Repository
) -> None:
    daemon = Daemon(
        *(conversation, tmp_path / "fairlead.db", small_engine.host),
        keep_releases="2",
        min_free=str(64 * MIB),
        history_size=str(MIB),
    ).starts()
    before = images(daemon)
    # What others have made stays: without a name, with our labels but another instance, unused.
    for labels in ({}, {LABEL_INSTANCE: "another"}):
        context = tmp_path / f"other-{len(labels)}"
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM busybox\nRUN echo {len(labels)} > /of-others\n")
        daemon.engine.images.build(path=str(context), labels=labels, rm=True)
    foreign = images(daemon)
    assert len(foreign - before) == 2

    samples = deploys_again_and_again(daemon, repository, small_engine.data, 4, 8 * MIB)
    assert min(each.free for each in samples) >= 32 * MIB
    assert daemon.post("/api/prune").json()["more"] is False
    # Two releases, the stage of the newest of them, and the base image; the failure is long past.
    daemon.until(lambda: len(images(daemon) - foreign) == 3, "two images and a stage are left")
    assert foreign <= images(daemon)
    record = daemon.deploy(4)
    assert record["state"] == "live"
    assert record["image_id"] in images(daemon)
    assert "fairlead_pruned_items_total" in daemon.get("/metrics").text
    assert 'fairlead_disk_free_bytes{disk="engine"}' in daemon.get("/metrics").text

    # The history was small enough to stay. Now it is old, too.
    assert (rows(daemon, "deliveries"), rows(daemon, "deploys")) == (4, 4)
    daemon.ends()
    daemon.starts(history_age="0.001")
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "it is ready")
    daemon.until(lambda: rows(daemon, "deploys") == 2, "the releases that are kept are left")
    daemon.until(lambda: rows(daemon, "deliveries") == 0, "no delivery is left")
    logs = daemon.db.with_suffix(".deploys")
    assert sorted(each.name for each in logs.iterdir()) == ["2.log", "4.log"]
    assert daemon.get("/api/deploys/4/log").text != ""
    assert daemon.deploy(4)["steps"] != []
    daemon.until(lambda: len(images(daemon) - foreign) == 2, "the stage is too old as well")


def test_a_build_is_refused_where_there_is_no_room_for_it(
    small_engine: EngineProcess, conversation: Conversation, tmp_path: Path, repository: Repository
) -> None:
    daemon = Daemon(
        *(conversation, tmp_path / "fairlead.db", small_engine.host), min_free=str(64 * MIB)
    ).starts()
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    (serving_now,) = daemon.containers()
    wrote = serving_now.exec_run(["sh", "-c", "head -c 3000000 /dev/zero > /written"])
    assert wrote.exit_code == 0

    def written() -> int | None:
        size: int | None = daemon.get("/api/apps/app").json()["written_bytes"]
        return size

    assert written() is None
    filler = small_engine.data / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_engine.data).free - 48 * MIB))

    repository.commits(serving("two"))
    answer = daemon.is_pushed(repository, "app", domain="app.test", wait=30)
    failed = daemon.ended(answer.json()["deploy_id"])
    assert (failed["state"], failed["error_kind"]) == ("failed", "disk_full")
    assert "free on the disk of the engine" in failed["error"]
    assert "64 MiB needed (FAIRLEAD_MIN_FREE)" in failed["error"]
    assert "fairlead prune" in failed["error"]
    assert "pruning" in daemon.get(f"/api/deploys/{failed['id']}/log").text
    assert [each.status for each in daemon.containers()] == ["running"]

    daemon.until(lambda: (written() or 0) >= 3_000_000, "who has written how much is known")
    assert 'fairlead_app_written_bytes{app="app"} 3' in daemon.get("/metrics").text
    assert 'msg="little disk is left: containers have written"' in daemon.said()
    assert 'written="app 2.' in daemon.said()

    filler.unlink()
    assert daemon.deploys(repository, "app", domain="app.test")["deploy_id"] > failed["id"]
    daemon.until(lambda: written() is None, "nobody asks who has written how much")
    assert "fairlead_app_written_bytes{" not in daemon.get("/metrics").text


@pytest.mark.parametrize("min_free", [str(96 * MIB), "0"], ids=["stopped in time", "full"])
def test_a_build_that_fills_the_disk_ends_with_the_cause(
    min_free: str,
    small_engine: EngineProcess,
    conversation: Conversation,
    tmp_path: Path,
    repository: Repository,
) -> None:
    daemon = Daemon(
        *(conversation, tmp_path / "fairlead.db", small_engine.host), min_free=min_free
    ).starts()
    repository.commits(serving("one"))
    daemon.deploys(repository, "app", domain="app.test")
    free = shutil.disk_usage(small_engine.data).free
    # A piece at a time: the disk of a machine is larger, and slower to fill.
    piece = "dd if=/dev/zero of=/$n bs=1M count=4 2>&1 || exit 1; sleep 0.1"
    repository.commits({"Dockerfile": f"FROM busybox\nRUN for n in $(seq 999); do {piece}; done\n"})
    answer = daemon.is_pushed(repository, "app", domain="app.test", wait=0)
    failed = daemon.ended(answer.json()["deploy_id"])
    assert (failed["state"], failed["error_kind"], failed["step"]) == (
        *("failed", "disk_full", "build"),
    )
    cause = "stopped, as it was filling the disk" if min_free != "0" else "No space left on device"
    assert cause in failed["error"]
    assert "fairlead prune" in failed["error"]
    daemon.until(
        lambda: shutil.disk_usage(small_engine.data).free > free - 8 * MIB, "it has left nothing"
    )
    assert [each.status for each in daemon.containers()] == ["running"]


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("small_engine", [SOAK_DISK], indirect=True)
def test_free_space_never_falls_below_the_floor_and_the_daemon_levels_off(
    small_engine: EngineProcess, conversation: Conversation, tmp_path: Path, repository: Repository
) -> None:
    floor = SOAK_DISK // 10
    # With an edge, which switches and drains: without one each deploy waits for it in vain.
    edge = Process(conversation, tmp_path / "fairlead.db")
    daemon = Daemon(
        *(conversation, edge.db, small_engine.host),
        min_free=str(2 * floor),
        history_size=str(2 * MIB),
    ).starts()
    samples = deploys_again_and_again(
        daemon, repository, small_engine.data, SOAK_DEPLOYS, SOAK_PAYLOAD
    )
    print(
        f"least free: {min(each.free for each in samples) / MIB:.1f} MiB of {SOAK_DISK / MIB:.1f}"
    )
    assert min(each.free for each in samples) >= floor
    levels_off(samples)
