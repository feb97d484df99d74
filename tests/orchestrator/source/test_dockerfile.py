"""Proves that what a repository says cannot become an instruction of its generated Dockerfile."""

import pytest

from orchestrator.source.detect import Detection, detect
from orchestrator.source.dockerfile import render
from orchestrator.source.tree import Tree

HOSTILE = "x\"\nRUN touch /hacked\n$(id) '`"


def instructions(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line[:1].isupper()]


def detected(**files: str) -> Detection:
    return detect(Tree(frozenset(files), files))


def test_a_repository_with_its_own_dockerfile_gets_none() -> None:
    with pytest.raises(ValueError, match="no Dockerfile is written"):
        render(Detection("dockerfile", (), 8080))


@pytest.mark.parametrize(
    ("runtime", "options"),
    [
        ("go", {"package": "{}", "assets": ["{}"], "whole_tree": False}),
        ("node", {"command": ["node", "{}"], "install": ["npm", "ci"], "build": False}),
        (
            "python",
            {
                "command": ["sh", "-c", "{}"],
                "requirements": True,
                "install_project": False,
                "packages": ["{}"],
            },
        ),
        ("static", {"folder": "{}"}),
    ],
)
def test_names_with_line_breaks_and_quotes_add_no_instruction(
    runtime: str, options: dict[str, object]
) -> None:
    def rendered(name: str) -> str:
        filled = {
            key: [part.format(name) for part in value]
            if isinstance(value, list)
            else value.format(name)
            if isinstance(value, str)
            else value
            for key, value in options.items()
        }
        return render(Detection(runtime, (), 80, filled))

    assert instructions(rendered(HOSTILE)) == instructions(rendered("harmless"))
    assert HOSTILE not in rendered(HOSTILE)


def test_an_app_does_not_run_as_root() -> None:
    found = detected(**{"index.html": ""})
    assert "\nUSER 1000:1000\n" in render(found)
