"""Proves `orchestrator.security.validation`."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import RefusedError
from orchestrator.security import validation


class TestAppNames:
    @pytest.mark.parametrize(
        ("repository", "app"),
        [
            ("sim-app", "sim-app"),
            ("Hello-World", "hello-world"),
            ("My App.js", "my-app-js"),
            ("__a__b__", "a-b"),
            ("x" * 39 + "-yz", "x" * 39),
            ("../../etc", "etc"),
            ("-rf", "rf"),
        ],
    )
    def test_a_repository_s_name_becomes_the_app_s(self, repository: str, app: str) -> None:
        assert validation.app_name(repository) == app

    @given(st.text())
    def test_whatever_comes_out_is_an_app_s_name(self, repository: str) -> None:
        try:
            name = validation.app_name(repository)
        except RefusedError:
            return
        assert validation.check_app(name) == name == validation.app_name(name)

    @pytest.mark.parametrize("repository", ["", "---", "日本", "..."])
    def test_a_name_without_letters_and_digits_is_refused(self, repository: str) -> None:
        with pytest.raises(RefusedError, match="no app name can be made"):
            validation.app_name(repository)

    @pytest.mark.parametrize(
        "name", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a\n", "x" * 41, "--rm", "é"]
    )
    def test_only_a_z_digits_and_dashes_name_an_app(self, name: str) -> None:
        with pytest.raises(RefusedError, match="is not a valid app name"):
            validation.check_app(name)


class TestSecurity5Domains:
    """Domains: lower case, IDNA, no IP addresses, no name of our own."""

    @pytest.mark.parametrize(
        ("text", "domain"),
        [
            ("sim.local", "sim.local"),
            ("App.Example.COM.", "app.example.com"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("straße.de", "xn--strae-oqa.de"),
            ("a。b", "a.b"),
            ("app.localhost", "app.localhost"),
            ("my_app.local", "my_app.local"),
        ],
    )
    def test_a_name_has_one_spelling(self, text: str, domain: str) -> None:
        assert validation.check_domain(text) == domain
        assert validation.check_domain(domain) == domain

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("127.0.0.1", "is an IP address"),
            ("[::1]", "is an address"),
            ("::1", "is an address"),
            ("１２７.0.0.1", "is an IP address"),
            ("0x7f.1", "ends in a number"),
            ("2130706433", "ends in a number"),
            ("*.example.com", "wildcard"),
            ("*", "wildcard"),
            ("a.example:80", "port"),
            ("a.example/path", "path"),
            ("user@a.example", "user information"),
            ("a b.example", "blank or a control"),
            ("a.example\r\nX: y", "port|blank"),
            ("", "empty"),
            (".", "empty"),
            ("a..b", "empty label"),
            ("-a.example", "not a valid name"),
            ("xn--a", "is not a valid A-label"),
            ("\u202ea.example", "is not a valid DNS name"),
            ("a." * 127, "253"),
            ("ü" * 254, "253"),
            ("x" * 64 + ".example", "63|label"),
        ],
    )
    def test_what_is_no_name_is_refused(self, text: str, reason: str) -> None:
        with pytest.raises(RefusedError, match=reason):
            validation.check_domain(text)

    @pytest.mark.parametrize("text", ["localhost", "LOCALHOST.", "panel.example", "Panel.Example"])
    def test_names_of_our_own_are_refused(self, text: str) -> None:
        with pytest.raises(RefusedError, match="is reserved for this machine"):
            validation.check_domain(text, own={"panel.example"})


class TestSecurity5HealthPath:
    """The health path begins with one `/`, has no CR, LF, `@` or `//`."""

    @pytest.mark.parametrize("path", ["/", "/healthz", "/up?deep=1&x=%20", "/a/b.c~d"])
    def test_a_path_is_let_through_as_it_is(self, path: str) -> None:
        assert validation.check_health_path(path) == path

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "healthz",
            "//evil.example/",
            "/a//b",
            "/@evil.example",
            "/a\r\nHost: evil",
            "/a\n",
            "/a b",
            "/a\x00",
            "/a\x7f",
            "/a\\b",
            "/a#b",
            "/ü",
            "http://evil.example/",
        ],
    )
    def test_what_could_lead_elsewhere_is_refused(self, path: str) -> None:
        with pytest.raises(RefusedError, match="must begin with /"):
            validation.check_health_path(path)

    def test_it_is_bounded(self) -> None:
        assert validation.check_health_path("/" + "a" * 1023)
        with pytest.raises(RefusedError, match="1024"):
            validation.check_health_path("/" + "a" * 1024)


BRANCHES = ["main", "feature/x", "a.b", "ü", "v1@2", "a{b", "@a", "release-1", "#1", "a'b", "$(x)"]
NO_BRANCHES = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".a",
    "a/.b",
    "a.lock",
    "a.lock/b",
    "a..b",
    "a.",
    "a b",
    "a\tb",
    "a\nb",
    "a\x7f",
    "a~1",
    "a^",
    "a:b",
    "a?",
    "a*",
    "a[b",
    "a\\b",
    "a@{1}",
    "-a",
    "--upload-pack=touch",
]


class TestSecurity2Refs:
    """No ref begins with `-`; check-ref-format; commits are 40 or 64 hex digits."""

    @pytest.mark.parametrize("name", BRANCHES)
    def test_a_branch_that_git_knows_is_let_through(self, name: str) -> None:
        assert validation.check_branch(name) == name
        assert git_takes(name)

    @pytest.mark.parametrize("name", NO_BRANCHES)
    def test_a_branch_that_git_does_not_know_is_refused(self, name: str) -> None:
        with pytest.raises(RefusedError, match="is not a valid branch name"):
            validation.check_branch(name)
        assert not git_takes(name)

    @pytest.mark.parametrize("name", ["@", "HEAD", "a\u202eb", "a\u2028b", "\ud800", "x" * 256])
    def test_so_is_what_means_something_else_or_hides(self, name: str) -> None:
        with pytest.raises(RefusedError):
            validation.check_branch(name)

    @pytest.mark.parametrize(
        ("ref", "branch", "tag"),
        [
            ("refs/heads/main", "main", None),
            ("refs/heads/feature/x", "feature/x", None),
            ("refs/tags/v1", None, "v1"),
            ("refs/notes/x", None, None),
            ("main", None, None),
            ("refs/heads/refs/tags/x", "refs/tags/x", None),
        ],
    )
    def test_a_reference_names_a_branch_or_a_tag(
        self, ref: str, branch: str | None, tag: str | None
    ) -> None:
        assert validation.branch_of(ref) == branch
        assert validation.tag_of(ref) == tag

    @pytest.mark.parametrize("commit", ["a" * 40, "0123456789abcdef" * 4, "0" * 39 + "1"])
    def test_a_commit_has_40_or_64_digits(self, commit: str) -> None:
        assert validation.check_commit(commit) == commit

    @pytest.mark.parametrize(
        "commit",
        [
            *("", "main", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "-" + "a" * 39, "٠" * 40),
            *("a" * 40 + "\n", "0" * 40, "0" * 64),
        ],
    )
    def test_anything_else_is_no_commit(self, commit: str) -> None:
        with pytest.raises(RefusedError, match="is not a commit id"):
            validation.check_commit(commit)


class TestCredentials:
    @pytest.mark.parametrize(
        ("url", "bare", "credentials"),
        [
            ("https://h/x.git", "https://h/x.git", ""),
            ("https://u:p@h/x.git", "https://h/x.git", "u:p"),
            ("https://token@h:8443/x", "https://h:8443/x", "token:"),
            ("https://u:p%40%3Aq@h/x", "https://h/x", "u:p@:q"),
            ("https://u:a@b@h/x", "https://h/x", "u:a@b"),
            ("HTTPS://u:p@h/x", "HTTPS://h/x", "u:p"),
            ("https://@h/x", "https://h/x", ""),
            ("https://h/x@y", "https://h/x@y", ""),
            ("ssh://git@h/x", "ssh://git@h/x", ""),
            ("git@h:x/y.git", "git@h:x/y.git", ""),
            ("file:///srv/a@b", "file:///srv/a@b", ""),
        ],
    )
    def test_they_are_split_off(self, url: str, bare: str, credentials: str) -> None:
        assert validation.split_credentials(url) == (bare, credentials)

    @pytest.mark.parametrize(
        "url",
        [
            "https://u:p%0ahost=evil@h/x",
            "https://u%3Av:p@h/x",
            "ssh://git:p@h/x",
            f"https://u:{'p' * validation.MAX_URL}@h/x",
        ],
    )
    def test_those_that_none_can_be_are_refused(self, url: str) -> None:
        with pytest.raises(RefusedError):
            validation.split_credentials(url)


class TestSecurity2Urls:
    """No `ext::`; `file://` only where allowed; no URL begins with `-`."""

    @pytest.mark.parametrize(
        "url",
        [
            "https://github.com/o/r.git",
            "https://h:8443/r",
            "https://[::1]:8443/r",
            "ssh://git@h/r.git",
            "ssh://git@h:2222/r.git",
            "ssh://h/r.git",
            "git@github.com:o/r.git",
            "git@h:/srv/r.git",
            "https://h/ü.git",
        ],
    )
    def test_https_and_ssh_are_let_through(self, url: str) -> None:
        assert validation.check_clone_url(url, allow_file=False) == url

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://h/r", "is not encrypted"),
            ("git://h/r", "is not authenticated"),
            ("ftp://h/r", "is not supported"),
            ("ext::sh -c touch% /tmp/x", "helper"),
            ("EXT::sh", "helper"),
            ("fd::17", "helper"),
            ("-oProxyCommand=touch", "begins with -"),
            ("--upload-pack=touch", "begins with -"),
            ("ssh://-oProxyCommand=touch/r", "invalid host"),
            ("ssh://%2doProxyCommand=touch/r", "invalid host"),
            ("ssh://-l@h/r", "user"),
            ("git@-oProxyCommand=x:r", "invalid host"),
            ("-git@h:r", "begins with -"),
            ("git@h:-r", "path that begins with -"),
            ("https://u:p@h/r", "user"),
            ("https://h/r\n", "control"),
            ("https://h/%0ahost=x", "encoded control"),
            ("https://h/a b", "space"),
            ("https://h\\@evil/r", "\\\\"),
            ("https://h:0/r", "port"),
            ("https://h:99999/r", "port"),
            ("https://h:x/r", "port"),
            ("https:///r", "invalid host"),
            ("https://h", "no path"),
            ("https://h/", "no path"),
            ("/srv/r", "is not a valid clone URL"),
            ("h:r", "is not a valid clone URL"),
            ("", "is not a valid clone URL"),
            ("https://h/" + "a" * 2048, "2048"),
            ("file:///srv/r", "only under FAIRLEAD_LOCAL_REPOS"),
        ],
    )
    def test_anything_else_is_refused(self, url: str, reason: str) -> None:
        with pytest.raises(RefusedError, match=reason):
            validation.check_clone_url(url, allow_file=False)

    def test_a_file_is_let_through_where_allowed(self) -> None:
        assert validation.check_clone_url("file:///srv/r", allow_file=True) == "file:///srv/r"

    @pytest.mark.parametrize("url", ["file://host/r", "file://", "file:///", "file:///a\nb"])
    def test_a_file_of_another_host_is_refused(self, url: str) -> None:
        with pytest.raises(RefusedError):
            validation.check_clone_url(url, allow_file=True)

    def test_security_7_an_error_shows_no_credentials(self) -> None:
        for url in ("http://u:hunter2@h/r", "git://u:hunter2@h/r", "https://u:hunter2@h:0/r"):
            with pytest.raises(RefusedError) as caught:
                validation.check_clone_url(url, allow_file=False)
            assert "hunter2" not in str(caught.value)


def git_takes(name: str) -> bool:
    """What git itself says. (`--branch` refuses a leading dash, `refs/heads/-a` it knows.)"""
    return (
        subprocess.run(
            ["git", "check-ref-format", "--branch", name], capture_output=True
        ).returncode
        == 0
    )
