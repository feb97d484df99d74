"""The engine's messages while it builds."""

import pytest

from orchestrator.engine.build_output import (
    LAST_LINES,
    MAX_LINE_LENGTH,
    MAX_STAGES,
    BuildOutput,
)
from orchestrator.errors import StepError
from orchestrator.security.redact import MASK, Redactor


def last_lines(*texts: str) -> list[str]:
    """The lines of these pieces of output."""
    output = BuildOutput(Redactor().stream())
    lines = [line for text in texts for line in output.feed({"stream": text})]
    return lines + list(output.flush())


def failure(instruction: str, reason: str) -> StepError:
    """The error of a build that fails at `instruction`."""
    output = BuildOutput(Redactor().stream())
    list(output.feed({"stream": f"Step 1/2 : {instruction}\n"}))
    with pytest.raises(StepError) as caught:
        list(output.feed({"error": reason}))
    return caught.value


def test_lines_are_put_together_from_pieces() -> None:
    assert last_lines("Step 1/1 : RUN x\n", "a", "b\nc", "d") == ["Step 1/1 : RUN x", "ab", "cd"]


def test_of_a_progress_bar_the_end_is_left() -> None:
    assert last_lines("10%\r50%\r", "100%\r\n", "windows\r\n") == ["100%", "windows"]


def test_lines_without_end_come_in_bounded_pieces() -> None:
    lines = last_lines(*["x" * 1000] * 100)
    assert max(map(len, lines)) <= MAX_LINE_LENGTH


def test_security_7_no_secret_is_cut_into_what_nobody_knows_again() -> None:
    redactor = Redactor()
    redactor.add("hunter2")
    for before in range(MAX_LINE_LENGTH - 10, MAX_LINE_LENGTH + 3):
        for cut in range(len("hunter2") + 1):
            output = BuildOutput(redactor.stream())
            pieces = ("x" * before + "hunter2"[:cut], "hunter2"[cut:] + "y" * 100 + "\n")
            lines = [line for text in pieces for line in output.feed({"stream": text})]
            shown = "".join(lines).replace("x", "").replace("y", "")
            assert shown in (MASK, MASK[:2], MASK[:1], ""), (before, cut)


def test_a_program_that_prints_stages_makes_us_remember_no_more_than_a_few() -> None:
    output = BuildOutput(Redactor().stream())
    for number in range(10_000):
        said = f"Step 1/1 : FROM x\n ---> {number:012x}\n"
        assert list(output.feed({"stream": said})) == said.splitlines()
    assert len(output.stages) == len(output.layers) == MAX_STAGES


def test_the_progress_of_a_download_is_left_out() -> None:
    output = BuildOutput(Redactor().stream())
    kept = list(output.feed({"status": "Pulling from library/busybox", "id": "latest"}))
    left = list(output.feed({"status": "Downloading", "progressDetail": {"current": 1}}))
    assert (kept, left) == (["Pulling from library/busybox"], [])


def test_the_id_is_that_of_the_last_message_with_one() -> None:
    output = BuildOutput(Redactor().stream())
    assert list(output.feed({"aux": {"ID": "sha256:1"}})) == []
    assert output.image_id == "sha256:1"


@pytest.mark.parametrize(
    "reason",
    [
        (
            "pull access denied for nobody/nothing, repository does not exist or may require"
            " 'docker login': denied: requested access to the resource is denied"
        ),
        "manifest for busybox:nosuch not found: manifest unknown: manifest unknown",
        ('Get "https://registry.test/v2/": dial tcp: lookup registry.test: no such host'),
        "toomanyrequests: You have reached your pull rate limit.",
    ],
)
@pytest.mark.parametrize("instruction", ["FROM x/y:1", "COPY --from=x/y:1 /a /b"])
def test_a_base_image_that_cannot_be_fetched_is_an_error_of_its_own(
    instruction: str, reason: str
) -> None:
    error = failure(instruction, reason)
    assert error.kind == "base_image_missing"
    assert instruction in str(error)
    assert "docker login" in str(error)


def test_a_program_that_reaches_no_server_is_not_a_missing_base_image() -> None:
    assert failure("RUN curl x", "no such host").kind == "build_failed"


def test_of_the_output_the_last_lines_are_shown() -> None:
    output = BuildOutput(Redactor().stream())
    for number in range(1000):
        list(output.feed({"stream": f"line {number}\n"}))
    text = str(output.failure("it ended"))
    assert text.count("  line ") == LAST_LINES
    assert text.endswith("  line 999")
