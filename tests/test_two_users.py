"""Proves what edge and orchestrator may do to each other's files, as the users that the units name.

Both programs run as they do under systemd: users, groups, modes and places are read from the units.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.as_user import ROOT, arguments
from tests.harness import Conversation
from tests.process import Process
from tests.programs import free_port
from tests.test_deployments import read_unit

FIRST_ID = 61_000
OPERATOR, STRANGER = "alice", "mallory"


def what_is_missing() -> str:
    if os.geteuid() != 0:
        return "only root can be other users"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode != 0:
        return "no mount namespaces here"
    return ""


pytestmark = pytest.mark.skipif(bool(what_is_missing()), reason=what_is_missing())


class Unit:
    """What a unit says of whose process it is, and of its places, below `folder` here."""

    def __init__(self, name: str, folder: Path) -> None:
        values = read_unit(name)
        self.values = values
        (self.user,), (self.group,) = values["User"], values["Group"]
        self.others = " ".join(values["SupplementaryGroups"]).split()
        self.umask = int(values["UMask"][0], 8)
        self.folder = folder / values["StateDirectory"][0]
        self.mode = int(values["StateDirectoryMode"][0], 8)
        self.environment = {
            name: value.replace("/var/lib", str(folder))
            for name, _, value in (each.partition("=") for each in values["Environment"])
        }


class Machine:
    """Its users, and its folders as systemd makes them."""

    def __init__(self, conversation: Conversation, folder: Path) -> None:
        self.conversation = conversation
        self.folder = folder
        self.edge = Unit("fairlead.service", folder)
        self.orchestrator = Unit("fairlead-orchestrator.service", folder)
        self._make_users()
        for unit in (self.edge, self.orchestrator):
            unit.folder.mkdir()
            os.chown(unit.folder, self.users[unit.user], self.groups[unit.group])
            unit.folder.chmod(unit.mode)
        self.db = Path(self.edge.environment["FAIRLEAD_DB"])
        self.state = Path(self.orchestrator.environment["FAIRLEAD_STATE_DB"])
        self.api = self.state.with_suffix(".api.sock")

    def _make_users(self) -> None:
        operators = self.orchestrator.group
        primary = {unit.user: unit.group for unit in (self.edge, self.orchestrator)}
        primary |= {OPERATOR: OPERATOR, STRANGER: STRANGER}
        groups = sorted({*primary.values(), *self.orchestrator.others})
        self.groups = {name: FIRST_ID + number for number, name in enumerate(groups)}
        self.users = {name: FIRST_ID + 100 + number for number, name in enumerate(primary)}
        members = {name: set[str]() for name in groups}
        for name in self.orchestrator.others:
            members[name].add(self.orchestrator.user)
        members[operators].add(OPERATOR)
        (self.folder / "passwd").write_text(
            "root:x:0:0::/root:/bin/sh\n"
            + "".join(
                f"{name}:x:{number}:{self.groups[primary[name]]}::/:/bin/false\n"
                for name, number in self.users.items()
            )
        )
        (self.folder / "group").write_text(
            "root:x:0:\n"
            + "".join(
                f"{name}:x:{number}:{','.join(sorted(members[name]))}\n"
                for name, number in self.groups.items()
            )
        )

    def program(self, user: str, *words: str) -> tuple[str, ...]:
        """What Python is given to run it as this user, with the umask of the user's unit."""
        umask = {unit.user: unit.umask for unit in (self.edge, self.orchestrator)}.get(user, 0o022)
        return tuple(arguments(self.folder, user, umask, *words))

    def runs(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A program of Python's to its end, with the environment of the orchestrator."""
        return subprocess.run(
            [sys.executable, *self.program(user, *words)],
            env={**os.environ, **self.orchestrator.environment},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )

    def fairlead(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A command."""
        return self.runs(user, "-P", "-m", "fairlead", *words)

    def tries(self, user: str, script: str) -> str:
        """What a script prints."""
        done = self.runs(user, "-c", textwrap.dedent(script))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def starts_edge(self) -> Process:
        """The edge, and its workers."""
        given: dict[str, Any] = {
            name.removeprefix("FAIRLEAD_").lower(): value
            for name, value in self.edge.environment.items()
            if name.startswith("FAIRLEAD_") and name != "FAIRLEAD_DB"
        }
        program = self.program(self.edge.user, "-P", "-m", "edge")
        return Process(self.conversation, self.db, program=program, workers="1", **given)

    def starts_orchestrator(self) -> "Orchestrator":
        """The orchestrator, without an engine."""
        return Orchestrator(self)


class Orchestrator:
    """Its process, which ends with the test."""

    def __init__(self, machine: Machine) -> None:
        self.popen = subprocess.Popen(
            [
                sys.executable,
                *machine.program(machine.orchestrator.user, "-P", "-m", "orchestrator"),
            ],
            env={
                **os.environ,
                **machine.orchestrator.environment,
                "FAIRLEAD_ADDR": f"127.0.0.1:{free_port()}",
                "DOCKER_HOST": f"unix://{machine.folder}/no.sock",
            },
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        machine.conversation.closes_at_end(self._ends)
        said = ""
        assert self.popen.stderr is not None
        while "orchestrator listening" not in said:
            line = self.popen.stderr.readline()
            if not line:
                machine.conversation.fails(f"the orchestrator ended; it said:\n{said}")
            said += line

    def _ends(self) -> None:
        self.popen.terminate()
        self.popen.communicate()


@pytest.fixture
def machine(conversation: Conversation) -> Machine:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    conversation.closes_at_end(lambda: shutil.rmtree(folder))
    return Machine(conversation, folder)


def serves(edge: Process, host: str) -> int:
    """The status of what it answers."""
    client = edge.connects()
    client.sends(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return client.receives_response().status


HOLD = """
    import sqlite3, sys
    c = sqlite3.connect({db!r}, isolation_level=None)
    c.execute("BEGIN")
    c.execute("SELECT count(*) FROM proxy_routes").fetchone()
    print("holds", flush=True)
    sys.stdin.read()
"""


class TestRoutes:
    @pytest.mark.parametrize("first", ["edge", "orchestrator"])
    def test_what_any_of_them_writes_is_served_whoever_was_first(
        self, machine: Machine, first: str
    ) -> None:
        users = {"edge": machine.edge.user, "orchestrator": machine.orchestrator.user}
        users["root"] = "root"
        edge = machine.starts_edge()
        order = [first, *(each for each in users if each != first)]
        for host in order:
            target = "127.0.0.1:1"
            done = machine.fairlead(users[host], "route", "set", f"{host}.test", target)
            assert (done.returncode, "served by 1/1 workers" in done.stdout) == (0, True), done
        for host in order:
            assert serves(edge, f"{host}.test") == 502  # nobody listens there
        assert serves(edge, "other.test") == 404
        found = machine.db.stat()
        assert (found.st_mode & 0o777, found.st_gid) == (
            0o660,
            machine.groups[machine.edge.group],
        )

    @pytest.mark.parametrize("reader", ["edge", "orchestrator"])
    def test_the_files_beside_the_database_are_for_both(
        self, machine: Machine, reader: str
    ) -> None:
        """While one reads, the other writes: -wal and -shm are there, made by either."""
        users = [machine.edge.user, machine.orchestrator.user]
        if reader == "orchestrator":
            users.reverse()
        one, other = users
        assert machine.fairlead(other, "route", "set", "a.test", "127.0.0.1:1").returncode == 0
        with subprocess.Popen(
            [
                sys.executable,
                *machine.program(one, "-c", textwrap.dedent(HOLD.format(db=str(machine.db)))),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holding:
            assert holding.stdout is not None
            assert holding.stdout.readline() == "holds\n"
            for name in ("-wal", "-shm"):
                beside = machine.db.with_name(machine.db.name + name).stat()
                assert beside.st_uid == machine.users[one]
                assert (beside.st_mode & 0o777, beside.st_gid) == (
                    0o660,
                    machine.groups[machine.edge.group],
                )
            done = machine.fairlead(other, "route", "set", "b.test", "127.0.0.1:1")
            assert done.returncode == 0, done.stderr
            holding.communicate()
        listed = machine.fairlead(one, "route", "ls").stdout
        assert "a.test" in listed
        assert "b.test" in listed


class TestEdge:
    def test_has_no_way_to_what_is_the_orchestrators(self, machine: Machine) -> None:
        edge = machine.starts_edge()
        machine.starts_orchestrator()
        user = machine.edge.user
        groups = status_of(edge.popen.pid)["Groups"].split()
        assert groups == [str(machine.groups[machine.edge.group])]
        for path in (machine.state, machine.api, machine.state.with_suffix(".deploys")):
            script = f"""
                try:
                    open({str(path)!r}, "r+b")
                except OSError as error:
                    print(type(error).__name__)
            """
            assert machine.tries(user, script) == "PermissionError"
        said = machine.fairlead(user, "apps")
        assert (said.returncode, "you may not use" in said.stderr) == (1, True), said
        # Were all of its files open, the kernel would still say who asks.
        machine.orchestrator.folder.chmod(0o777)
        machine.api.chmod(0o777)
        said = machine.fairlead(user, "apps")
        assert (said.returncode, "may not use this socket" in said.stderr) == (1, True), said

    def test_what_it_plants_is_neither_followed_nor_believed(self, machine: Machine) -> None:
        """security.md, Medium 5."""
        machine.starts_orchestrator()
        before = machine.state.read_bytes()
        script = f"""
            import os, sqlite3
            os.symlink({str(machine.state)!r}, {str(machine.db)!r})
        """
        machine.tries(machine.edge.user, script)
        for user in (machine.orchestrator.user, "root"):
            done = machine.fairlead(user, "route", "set", "a.test", "127.0.0.1:1")
            assert (done.returncode, "is a link that user" in done.stderr) == (1, True), done
        assert machine.state.read_bytes() == before
        machine.db.unlink()
        assert machine.fairlead("root", "route", "set", "a.test", "127.0.0.1:1").returncode == 0
        beside = machine.db.with_name(machine.db.name + "-wal")
        machine.tries(
            machine.edge.user,
            f"import os; os.symlink({str(machine.state)!r}, {str(beside)!r})",
        )
        done = machine.fairlead(machine.orchestrator.user, "route", "set", "b.test", "127.0.0.1:1")
        assert (done.returncode, "is a link that user" in done.stderr) == (1, True), done
        assert machine.state.read_bytes() == before

    def test_a_journal_that_it_plants_has_no_file_of_others_removed(self, machine: Machine) -> None:
        """SQLite removes what a journal names, as the user who opens the database to write."""
        machine.starts_orchestrator()
        orchestrator = machine.orchestrator.user
        assert machine.fairlead(orchestrator, "route", "set", "a.test", "a:1").returncode == 0
        copy = machine.orchestrator.folder / "copy.db"
        state = machine.state.stat().st_ino
        for user, *words in (
            (orchestrator, "route", "set", "b.test", "a:1"),
            ("root", "route", "set", "b.test", "a:1"),
            ("root", "route", "ls"),
            ("root", "backup", str(copy)),
        ):
            script = f"""
                from pathlib import Path
                from tests.edge.routing.stores import journal
                db = Path({str(machine.db)!r})
                planted = db.with_name(db.name + "-journal")
                planted.unlink(missing_ok=True)
                planted.write_bytes(journal(db, Path({str(machine.state)!r})))
            """
            machine.tries(machine.edge.user, script)
            done = machine.fairlead(user, *words)
            assert (done.returncode, "others write to its folder" in done.stderr) == (1, True), done
            assert machine.state.stat().st_ino == state
        machine.db.with_name(machine.db.name + "-journal").unlink()
        assert machine.fairlead(orchestrator, "route", "set", "b.test", "a:1").returncode == 0

    def test_a_folder_that_it_closes_does_not_pass_for_one_without_routes(
        self, machine: Machine
    ) -> None:
        done = machine.fairlead(machine.orchestrator.user, "route", "set", "a.test", "a:1")
        assert done.returncode == 0, done
        machine.tries(machine.edge.user, f"import os; os.chmod({str(machine.db.parent)!r}, 0o700)")
        script = f"""
            from pathlib import Path
            from edge.errors import StoreError
            from edge.routing.store_writer import RouteWriter
            writer = RouteWriter(Path({str(machine.db)!r}))
            for use in (
                lambda: writer.routes(["a.test"]),
                lambda: writer.route_of(["a.test"]),
                lambda: writer.replace_tokens([]),
                lambda: writer.set("b.test", "a:1"),
            ):
                try:
                    use()
                except StoreError as error:
                    print("Permission denied" in str(error))
        """
        said = machine.tries(machine.orchestrator.user, script)
        assert said.split() == ["True"] * 4

    def test_no_state_is_taken_out_of_what_it_has_written(self, machine: Machine) -> None:
        script = f"""
            import sqlite3
            from orchestrator.store.schema import SCHEMA
            c = sqlite3.connect({str(machine.db)!r})
            c.executescript(SCHEMA)
            c.execute("INSERT INTO orchestrator_meta VALUES ('instance', 'mine')")
            c.execute("INSERT INTO tokens (name, hash, scopes, apps, created_at)"
                      " VALUES ('t', 'h', 'admin', '', 0)")
            c.commit()
        """
        machine.tries(machine.edge.user, script)
        done = machine.runs(machine.orchestrator.user, "-P", "-m", "orchestrator")
        assert (done.returncode, "other users could have written" in done.stderr) == (1, True), done
        assert not machine.state.exists()


class TestOperators:
    def test_members_of_the_group_are_let_in_at_the_socket_and_strangers_are_not(
        self, machine: Machine
    ) -> None:
        machine.starts_orchestrator()
        for user in (OPERATOR, machine.orchestrator.user, "root"):
            done = machine.fairlead(user, "apps")
            assert done.returncode == 0, done.stderr
        assert machine.fairlead(OPERATOR, "tokens", "ls").returncode == 0
        done = machine.fairlead(STRANGER, "apps")
        assert (done.returncode, "you may not use" in done.stderr) == (1, True), done
        machine.orchestrator.folder.chmod(0o777)
        machine.api.chmod(0o777)
        done = machine.fairlead(STRANGER, "apps")
        assert (done.returncode, "may not use this socket" in done.stderr) == (1, True), done

    def test_only_the_orchestrator_can_read_the_state(self, machine: Machine) -> None:
        machine.starts_orchestrator()
        for user, expected in (
            (machine.orchestrator.user, "read"),
            (OPERATOR, "PermissionError"),
            (STRANGER, "PermissionError"),
        ):
            script = f"""
                try:
                    open({str(machine.state)!r}, "rb").read(1)
                    print("read")
                except OSError as error:
                    print(type(error).__name__)
            """
            assert machine.tries(user, script) == expected


def status_of(pid: int) -> dict[str, Any]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
