"""What holds a program that has broken into an app, found out from inside its container."""

from pathlib import Path

from orchestrator.engine.container import PIDS_LIMIT, SHM_SIZE
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
