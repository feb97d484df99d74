"""Proves what each provider's payload asks for, and which pushes deploy nothing."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from orchestrator import webhooks
from orchestrator.errors import RefusedError
from orchestrator.webhooks import bitbucket
from orchestrator.webhooks.push import Ignored, Pong, Push, WebhookEvent
from tests.orchestrator.webhooks.deliveries import body_of, fields_of

COMMIT = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"

PUSH = Push(
    repository="o/r",
    name="r",
    clone_url="https://h/o/r.git",
    credentials="",
    default_branch="main",
    branch="main",
    tag="",
    commit="a" * 40,
    deleted=False,
    empty=False,
    message="fix",
)


def read(name: str, event: str = "push") -> Push | Ignored | Pong:
    """The verdict on a payload that is a file."""
    return webhooks.interpret(WebhookEvent(name.partition("/")[0], event, "1"), body_of(name))


def github(fields: dict[str, Any]) -> Push | Ignored | Pong:
    """The verdict on fields as a push of GitHub's."""
    return webhooks.interpret(WebhookEvent("github", "push", "1"), json.dumps(fields).encode())


def push_of(verdict: Push | Ignored | Pong) -> Push:
    """A verdict that must be a push."""
    assert isinstance(verdict, Push)
    return verdict


class TestGitHub:
    def test_a_new_branch_is_a_push_of_its_commit(self) -> None:
        assert read("github/push-new-branch") == Push(
            repository="Codertocat/Hello-World",
            name="Hello-World",
            clone_url="https://github.com/Codertocat/Hello-World.git",
            credentials="",
            default_branch="master",
            branch="master",
            tag="",
            commit=COMMIT,
            deleted=False,
            empty=False,
            message="Initial commit",
        )

    def test_a_deleted_tag_is_no_deploy(self) -> None:
        push = push_of(read("github/push-tag-deleted"))
        assert (push.tag, push.branch, push.commit, push.deleted) == ("simple-tag", "", "", True)
        assert webhooks.skip_reason(push, "") == "tag simple-tag was deleted: tags are not deployed"

    def test_a_deleted_branch_is_no_deploy(self) -> None:
        fields = fields_of("github/push-tag-deleted") | {"ref": "refs/heads/old"}
        assert webhooks.skip_reason(push_of(github(fields)), "") == "branch old was deleted"

    def test_a_ping_is_answered(self) -> None:
        assert read("github/ping", "ping") == Pong()
        assert webhooks.interpret(WebhookEvent("github", "ping", "1"), b"{}") == Pong()

    def test_another_event_is_ignored_with_the_reason(self) -> None:
        verdict = webhooks.interpret(WebhookEvent("github", "star", "1"), b"{}")
        assert verdict == Ignored("event star is not a push")

    def test_the_payload_of_the_tutorial_suffices(self) -> None:
        fields = {
            "ref": "refs/heads/main",
            "after": "a" * 40,
            "repository": {"name": "sim-app", "clone_url": "file:///tmp/sim"},
        }
        push = push_of(github(fields))
        assert push == replace(
            PUSH,
            repository="file:///tmp/sim",
            name="sim-app",
            clone_url="file:///tmp/sim",
            default_branch="",
            message="",
        )
        assert webhooks.skip_reason(push, "") is None

    def test_the_payload_may_stand_in_a_form(self) -> None:
        body = body_of("github/push-new-branch")
        form = urlencode({"payload": body.decode()}).encode()
        incoming = WebhookEvent("github", "push", "1")
        assert webhooks.interpret(incoming, form) == webhooks.interpret(incoming, body)
        assert b"payload=" + quote_plus(body.decode()).encode() == form

    def test_credentials_in_the_url_are_taken_out_of_it(self) -> None:
        fields = fields_of("github/push-new-branch")
        fields["repository"] |= {"clone_url": "https://u:hunter2@h/r.git", "full_name": None}
        push = push_of(github(fields))
        assert (push.clone_url, push.credentials) == ("https://h/r.git", "u:hunter2")
        assert push.repository == "https://h/r.git"

    def test_a_push_that_moves_nothing_is_empty(self) -> None:
        fields = fields_of("github/push-new-branch")
        push = push_of(github(fields | {"before": fields["after"]}))
        assert webhooks.skip_reason(push, "") == "the push to master has no new commits"
        push = push_of(github(fields | {"commits": [], "head_commit": None}))
        assert push.empty

    def test_a_branch_put_back_to_an_old_commit_is_not_empty(self) -> None:
        fields = fields_of("github/push-new-branch")
        push = push_of(github(fields | {"commits": [], "forced": True, "before": "b" * 40}))
        assert not push.empty

    def test_what_is_neither_branch_nor_tag_is_ignored(self) -> None:
        fields = fields_of("github/push-new-branch") | {"ref": "refs/notes/commits"}
        assert github(fields) == Ignored("'refs/notes/commits' is neither a branch nor a tag")

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({"ref": "refs/heads/--upload-pack=x"}, "is not a valid branch name"),
            ({"ref": "refs/heads/a\nb"}, "is not a valid branch name"),
            ({"ref": "refs/tags/-x"}, "is not a valid branch name"),
            ({"after": "main"}, "is not a commit id"),
            ({"after": "--help"}, "is not a commit id"),
            ({"after": None}, "field after is missing"),
            ({"ref": 1}, "ref must be a string"),
            ({"repository": []}, "repository must be an object"),
            ({"repository": {"name": "x"}}, r"field repository\.clone_url is missing"),
            ({"repository": {"clone_url": "https://h/x"}}, r"field repository\.name is missing"),
            ({"deleted": "yes"}, "deleted must be true or false"),
            ({"commits": [1]}, "commits must be a list of objects"),
        ],
    )
    def test_security_2_what_git_must_not_see_is_refused_with_the_field(
        self, changed: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(RefusedError, match=reason) as caught:
            github(fields_of("github/push-new-branch") | changed)
        assert caught.value.status == 400


class TestGitLab:
    def test_a_push_is_one_of_its_head(self) -> None:
        assert read("gitlab/push", "Push Hook") == Push(
            repository="mike/diaspora",
            name="diaspora",
            clone_url="https://gitlab.example.com/mike/diaspora.git",
            credentials="",
            default_branch="master",
            branch="master",
            tag="",
            commit="da1560886d4f094c3e6c9ef40349f7d38b5d27d7",
            deleted=False,
            empty=False,
            message="fixed readme",  # not that of another commit, which says [skip ci]
        )

    def test_a_new_branch_without_new_commits_is_not_empty(self) -> None:
        push = push_of(read("gitlab/push-new-branch", "Push Hook"))
        assert webhooks.skip_reason(push, "production") is None

    def test_a_deleted_branch_is_no_deploy(self) -> None:
        push = push_of(read("gitlab/push-branch-deleted", "Push Hook"))
        assert webhooks.skip_reason(push, "old") == "branch old was deleted"

    def test_a_tag_is_no_deploy(self) -> None:
        push = push_of(read("gitlab/tag-push", "Tag Push Hook"))
        assert webhooks.skip_reason(push, "") == "tag v1.0.0 was pushed: tags are not deployed"

    def test_another_event_is_ignored_with_the_reason(self) -> None:
        assert read("gitlab/push", "Job Hook") == Ignored("event Job Hook is not a push")


class TestGitea:
    def test_a_push_is_one_of_its_head(self) -> None:
        assert read("gitea/push") == Push(
            repository="gitea/webhooks",
            name="webhooks",
            clone_url="https://gitea.example/gitea/webhooks.git",
            credentials="",
            default_branch="develop",
            branch="develop",
            tag="",
            commit="bffeb74224043ba2feb48d137756c8a9331c449a",
            deleted=False,
            empty=False,
            message="Webhooks Yay!\n",
        )

    def test_an_older_one_that_tells_no_head_has_its_message_in_the_list(self) -> None:
        fields = fields_of("gitea/push")
        del fields["head_commit"]
        incoming = WebhookEvent("gitea", "push", "1")
        push = push_of(webhooks.interpret(incoming, json.dumps(fields).encode()))
        assert push.message == "Webhooks Yay!\n"
        assert not push.empty

    def test_a_deleted_branch_is_no_deploy(self) -> None:
        push = push_of(read("gitea/push-branch-deleted"))
        assert webhooks.skip_reason(push, "") == "branch old was deleted"

    def test_another_event_is_ignored_with_the_reason(self) -> None:
        assert read("gitea/push", "create") == Ignored("event create is not a push")


class TestBitbucket:
    COMMIT = "709d658dc5b6d6afcd46049c2f332ee3f515a67d"

    def test_a_push_is_one_of_its_head(self) -> None:
        assert read("bitbucket/push", "repo:push") == Push(
            repository="team_name/repo_name",
            name="repo_name",
            clone_url="https://bitbucket.org/team_name/repo_name.git",
            credentials="",
            default_branch="",
            branch="main",
            tag="",
            commit=self.COMMIT,
            deleted=False,
            empty=False,
            message="new commit message\n",
        )

    def test_of_several_changes_the_last_branch_counts(self) -> None:
        push = push_of(read("bitbucket/push-several", "repo:push"))
        assert push.branch == "dev"
        assert [(each.branch, each.tag) for each in push.other_refs] == [
            ("main", ""),
            ("", "v1"),
            ("gone", ""),
        ]

    def test_the_branch_that_is_asked_for_is_found_among_them(self) -> None:
        push = push_of(read("bitbucket/push-several", "repo:push"))
        found = webhooks.select_branch(push, "main")
        assert (found.branch, found.commit) == ("main", self.COMMIT)
        assert webhooks.skip_reason(found, "main") is None
        assert webhooks.select_branch(push, "unknown") is push
        assert webhooks.select_branch(push, "") is push

    def test_a_deleted_branch_is_no_deploy(self) -> None:
        push = push_of(read("bitbucket/push-branch-deleted", "repo:push"))
        assert webhooks.skip_reason(push, "") == "branch gone was deleted"

    def test_more_than_a_push_moves_is_refused(self) -> None:
        fields = fields_of("bitbucket/push")
        fields["push"]["changes"] *= bitbucket.MAX_CHANGES + 1
        with pytest.raises(RefusedError, match="more than 1000 branches and tags"):
            webhooks.interpret(
                WebhookEvent("bitbucket", "repo:push", "1"), json.dumps(fields).encode()
            )

    def test_a_push_without_changes_is_ignored(self) -> None:
        fields = fields_of("bitbucket/push") | {"push": {"changes": []}}
        verdict = webhooks.interpret(
            WebhookEvent("bitbucket", "repo:push", "1"), json.dumps(fields).encode()
        )
        assert verdict == Ignored("the push changed no branch and no tag")

    @pytest.mark.parametrize("name", ["x", "a/b/c", "a/b?c", "../..@evil/x", "a/b\n"])
    def test_security_2_a_name_that_leads_elsewhere_is_refused(self, name: str) -> None:
        fields = fields_of("bitbucket/push")
        fields["repository"]["full_name"] = name
        with pytest.raises(RefusedError, match="OWNER/NAME"):
            webhooks.interpret(
                WebhookEvent("bitbucket", "repo:push", "1"), json.dumps(fields).encode()
            )

    def test_another_event_is_ignored_with_the_reason(self) -> None:
        verdict = read("bitbucket/push", "issue:created")
        assert verdict == Ignored("event issue:created is not a push")


class TestWhyNot:
    def test_a_push_to_the_app_s_branch_deploys(self) -> None:
        assert webhooks.skip_reason(PUSH, "main") is None
        assert webhooks.skip_reason(PUSH, "") is None

    def test_another_branch_does_not(self) -> None:
        assert webhooks.skip_reason(PUSH, "production") == (
            "push to main, but the app deploys from production"
        )

    @pytest.mark.parametrize("message", ["fix [skip ci]", "x\n\n[SKIP Deploy]\n", "[skip deploy]"])
    def test_nor_does_a_head_commit_that_asks_not_to(self, message: str) -> None:
        reason = webhooks.skip_reason(replace(PUSH, message=message), "main")
        assert reason is not None
        assert reason.startswith("commit message contains [skip ")

    @pytest.mark.parametrize("message", ["", "skip ci", "[skip", "[skip  ci]", "ci]"])
    def test_but_other_messages_do(self, message: str) -> None:
        assert webhooks.skip_reason(replace(PUSH, message=message), "main") is None
