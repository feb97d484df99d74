"""What holds a program that has broken into an app, found out from inside its container."""

import shutil
from pathlib import Path

import pytest

from orchestrator.engine.container import PIDS_LIMIT, SHM_SIZE
from orchestrator.errors import StepError
from tests.orchestrator import docker_engine
from tests.orchestrator.workshop import Workshop, in_workshop

TMP_SIZE = 2**20

BROKEN_INTO = """
head -c 40000000 /dev/zero | tr '\\0' x | fold -w 10000
grep -E 'NoNewPrivs|Cap|Seccomp:' /proc/self/status
written=
for file in /new /bin/new /etc/new /tmp/new /dev/shm/new; do
  echo 2>/dev/null > $file && written="$written $file"
done
echo "written:$written"
rm /tmp/new /dev/shm/new
cp /bin/busybox /tmp/echo; cp /bin/busybox /dev/shm/echo
echo "run:$(/tmp/echo ran 2>/dev/null; /dev/shm/echo ran 2>/dev/null)"
head -c 4000000 /dev/zero 2>/dev/null > /tmp/echo
echo "tmp:$(stat -c %s /tmp/echo)"
echo "shm:$(df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2)"
(
  n=0
  while [ $n -lt 1000 ]; do sleep 1000 & n=$((n + 1)); echo $n > /dev/shm/forks; done
) 2>/dev/null
read n < /dev/shm/forks; echo "forks:$n"
"""
"""A flood of output, what it may, where it can write and run what it wrote, and a fork bomb."""


def test_a_program_that_does_as_it_likes_stays_within_its_container(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        container = await shop.runs(
            BROKEN_INTO, read_only=True, tmp_size=TMP_SIZE, memory=256 * 2**20
        )
        await shop.engine.wait_until_exited(container.id)
        lines = (await shop.engine.tail_logs(container.id, lines=20)).splitlines()
        said = {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}
        assert said["NoNewPrivs"] == "1"
        assert said["Seccomp"] == "2"  # a filter
        # CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID NET_BIND_SERVICE, by number.
        numbers = (0, 1, 3, 4, 5, 6, 7, 10)
        for name in ("CapBnd", "CapEff", "CapPrm"):
            assert int(said[name], 16) == sum(1 << number for number in numbers)
        assert int(said["CapAmb"], 16) == 0
        assert said["written"] == "/tmp/new /dev/shm/new"
        assert said["run"] == ""
        assert said["tmp"] == str(TMP_SIZE)
        assert said["shm"] == str(SHM_SIZE // 1024)
        # The others are docker-init, the shell, and the one that forks.
        assert PIDS_LIMIT - 10 < int(said["forks"]) < PIDS_LIMIT
        # Of the 40 MB the newest are kept: three files of 10 MB, and the end of a line each.
        log = Path(shop.raw.inspect_container(container.id)["LogPath"])
        kept = [each.stat().st_size for each in log.parent.glob(f"{log.name}*")]
        assert len(kept) == 3
        assert 20_000_000 < sum(kept) < 30_100_000

    in_workshop(engine_host, work)


DISK_SIZE = 8 * 2**20


def test_a_container_writes_no_more_than_its_disk_where_the_engine_has_quotas() -> None:
    lacks = docker_engine.what_is_missing()
    if lacks:
        pytest.skip(f"no engine of our own: {lacks}")
    known = Path("/proc/filesystems").read_text().split()
    if "btrfs" not in known or shutil.which("mkfs.btrfs") is None:
        pytest.skip("no btrfs: run `make programs`")

    async def work(shop: Workshop) -> None:
        fill = "head -c 40000000 /dev/zero > /filler; stat -c %s /filler"
        container = await shop.runs(fill, disk_size=DISK_SIZE)
        await shop.engine.wait_until_exited(container.id)
        # What `head` says of its end is on the other stream, and may come last.
        said = (await shop.engine.tail_logs(container.id)).splitlines()
        (size,) = (int(each) for each in said if each.isdecimal())
        assert DISK_SIZE // 2 < size <= DISK_SIZE

    with docker_engine.of_our_own(disk=2**29, quotas=True) as engine:
        in_workshop(engine.host, work)


def test_an_engine_without_quotas_says_which_setting_it_cannot_hold(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        with pytest.raises(StepError, match=r"storage-opt.*: set FAIRLEAD_CONTAINER_DISK to 0"):
            await shop.runs("exit", disk_size=DISK_SIZE)

    in_workshop(engine_host, work)


def test_what_containers_have_written_is_counted_by_app_with_their_volumes(
    engine_host: str,
) -> None:
    async def work(shop: Workshop) -> None:
        await shop.has_network()
        image = await shop.build(
            "FROM busybox:latest\nVOLUME /kept\n"
            'CMD ["sh", "-c", "head -c 3000000 /dev/zero | tee /file > /kept/file"]\n'
        )
        for app in ("app", "other"):
            made = await shop.engine.create(shop.spec(image, app=app))
            if app == "app":
                await shop.engine.start(made.id)
                await shop.engine.wait_until_exited(made.id)
        found = await shop.engine.written()
        assert 6_000_000 <= found.pop("app") < 6_100_000
        assert found.pop("other") < 100_000
        assert found == {}

    in_workshop(engine_host, work)
