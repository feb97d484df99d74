"""Proves that nothing a Dockerfile makes the engine fetch is overlooked, in whichever spelling.

Each spelling of an attack is one that an engine, of one version or another, takes for what it is.
"""

import pytest

from orchestrator.errors import StepError
from orchestrator.source.fetches import OWN_PLATFORM, check_triggers, fetches

URL = "http://127.0.0.1:8081/api/apps"


def hosts(text: str) -> list[str]:
    return [each.host for each in fetches(text) if each.host]


def images(text: str) -> list[str]:
    return [each.image for each in fetches(text) if each.image]


def refusal(text: str) -> str:
    with pytest.raises(StepError) as caught:
        fetches(text)
    assert caught.value.kind == "unsafe_dockerfile"
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"ADD {URL} /x",
        f"add\t{URL} /x",
        f"  ADD --chown=1 --chmod=1 {URL} /x",
        f"ADD -- {URL} /x",
        f"ADD a b {URL} /x",
        f'ADD ["{URL}", "/x"]',
        f'ADD ["{URL}", "/x"] and more',
        'ADD ["\\u0068ttp://127.0.0.1:8081/", "/x"]',
        f"ADD \\\n {URL} /x",
        f"ADD \\ \t\n# a comment\n\n {URL} /x",
        f"AD\\\nD {URL} /x",
        f"RUN a \\\n# not the end \\\n b\nADD {URL} /x",
        f"\ufeff# escape=`\nRUN a\\\nADD {URL} /x".removeprefix("\ufeff"),
        f"# escape=`\nADD `\n{URL} /x",
        'ADD "ht"tp://127.0.0.1/ /x',
        "ADD 'http://127.0.0.1/' /x",
        "ADD h\\ttp://127.0.0.1/ /x",
        "ADD HTTP://127.0.0.1/ /x",
        "ADD http://good.test@127.0.0.1/ /x",
        f"ENV U {URL}\nADD $U /x",
        f"ENV U={URL}\nADD ${{U}} /x",
        f'ENV A=b U="{URL}"\nADD $U/y /x',
        "ENV H=127.0.0.1\nENV U=http://$H\nADD $U/y /x",
        "ENV H=127.0.0.1\nADD http://${H}/y /x",
        "ENV E=\nADD ${E:-http://127.0.0.1/} /x",
        "ENV E=y\nADD ${E:+http://127.0.0.1/} /x",
        "ENV H=127.0.0.1 H2=other.test\nFROM scratch\nADD http://127.0.0.1/$H2 /x",
        "ADD git@127.0.0.1:a/b.git /x",
        "ADD ssh://git@127.0.0.1/b.git /x",
        "ADD http://127.0.0.1/$VERSION/x /x",
        'ADD ["\\ufeffhttp://127.0.0.1/", "/x"]',
        f'ADD ["a", "b"] {URL} /x',
    ],
)
def test_a_url_is_found_however_it_is_written(text: str) -> None:
    # A directive comes before FROM, or is none.
    first, _, rest = text.partition("\n")
    text = f"{first}\nFROM scratch\n{rest}" if first.startswith("#") else f"FROM scratch\n{text}"
    assert hosts(text) == ["127.0.0.1"]


def test_what_env_sets_goes_on_in_a_stage_that_is_built_on_this_one() -> None:
    text = f"FROM a AS one\nENV U={URL}\nFROM one\nADD $U /x\n"
    assert hosts(text) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("$U", "ADD $U /x"),
        ("the base image can set it, whatever ARG says", "ARG U=https://good.test\nADD $U /x"),
        ("also with a default", "ADD ${U:-https://good.test/} /x"),
        ("a host that is not whole", "ADD http://good.test$U /x"),
        ("a host that is not whole", "ADD http://good.test:80$U /x"),
        ("a scheme that is not whole", "ADD h${U}tp://127.0.0.1/ /x"),
        ("a cut", "ENV U=xhttp://127.0.0.1/\nADD ${U#x} /x"),
        ("a name that nobody knows", "ENV U=https://good.test\nENV $N=1\nADD $U /x"),
        ("a value that nobody knows", "ENV U=$N\nADD $U /x"),
        ("a name with a letter that is not ASCII", "ENV U=a/\nADD $U\u00e9 /x"),
        ("such a letter alone", "ADD $\u00e9 /x"),
        ("a name of two digits", "ADD $12 /x"),
        ("a name that it could set", f"ENV \u00e9={URL}\nADD a /x"),
        ("a name in quotes", f'ENV U=a/\nENV "U"={URL}\nADD $U /x'),
        ("a name that sets another", f"ENV U=a/ P=U={URL}\nENV $P=1\nADD $U /x"),
    ],
)
def test_a_variable_that_only_the_engine_knows_is_refused(source: str, text: str) -> None:
    assert "is not certain" in refusal(f"FROM base\n{text}\n"), source


def test_what_a_trigger_sets_in_a_stage_on_this_one_is_not_certain() -> None:
    text = "FROM a AS one\nENV U=a/\nONBUILD ENV U={}\nADD $U /x\n"
    assert hosts(text) == []
    assert "is not certain" in refusal(f"{text}FROM one\nADD $U /x\n")
    assert hosts(f"{text}FROM one\nENV U=b/\nADD $U /x\n") == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a list that is none to ARG", 'ARG I=b\nARG ["I=a"]\nFROM $I'),
        ("a name in quotes", 'ARG I=a\nARG "I"=b\nFROM $I'),
        ("a name by a variable", "ARG I=a\nARG N=I\nARG $N=b\nFROM $I"),
        ("one that is taken back", "ARG I=a\nARG I\nFROM ${I:-b}"),
        ("a number of two digits", "ARG I=a\nFROM ${I}$12"),
        ("a letter that is not ASCII", "ARG I=a\nFROM $I\u00e9"),
    ],
)
def test_no_argument_names_an_image_that_nobody_sees(what: str, text: str) -> None:
    assert refusal(text), what


def test_a_value_in_quotes_sets_one_argument() -> None:
    assert images('ARG I=b\nARG X="a I=a"\nFROM $I') == ["b"]


@pytest.mark.parametrize(
    "text",
    [
        "ADD target/${JAR_FILE} app.jar",
        "ADD ./$X /x",
        "ADD a b.tar.gz /x",
        "COPY $X /x",
        "RUN wget $URL && echo http://127.0.0.1/ << 1 <<< x",
        "RUN echo 'cout<<x' $((1<<3))",
        "ADD \\$X /x",
        "ADD '/$X' /x",
        "CMD echo ADD http://127.0.0.1/ /x",
    ],
)
def test_files_of_the_repository_are_no_fetch(text: str) -> None:
    assert hosts(f"FROM base\n{text}\n") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a", ["a"]),
        (f"from --platform={OWN_PLATFORM} a:1@sha256:2 as b", ["a:1@sha256:2"]),
        ("ARG V=1\nFROM a:$V", ["a:1"]),
        ("ARG V=1\nARG I=a:$V\nFROM ${I}", ["a:1"]),
        ("FROM ${V:-a}", ["a"]),
        ('FROM "a"', ["a"]),
        ("FROM scratch\nFROM a AS One\nFROM ONE", ["a"]),
        ("FROM a AS one\nFROM scratch\nCOPY --from=one x y\nCOPY --from=0 x y", ["a"]),
        ("FROM scratch\nCOPY --from=b x y", ["b"]),
        ("FROM scratch\nCOPY --chown=1 --fr\"om\"='b' x y", ["b"]),
        ("FROM scratch\nCOPY --from=later x y\nFROM a AS later", ["later", "a"]),
        ("FROM scratch\nCOPY --from=7 x y", ["7"]),
        ("FROM scratch\nRUN --mount=type=bind,from=b,target=/x true", ["b"]),
        ("FROM 0", ["0"]),
        # Of the stage itself there is no image yet: the engine looks for one of that name.
        ("FROM scratch AS dead\nCOPY --from=dead x y", ["dead"]),
        ("FROM a\nARG V=1\nFROM b:1", ["a", "b:1"]),
    ],
)
def test_images_are_found(text: str, found: list[str]) -> None:
    assert images(text) == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("FROM $V", "no value"),
        ("FROM a:${V}", "no value"),
        ("ARG V\nFROM a:$V", "no value"),
        ("FROM ${TARGETARCH:+127.0.0.1:5000/}a", "no value"),
        ("ARG TARGETARCH=a\nFROM ${TARGETARCH}", "no value"),
        ("FROM a\nARG V=1\nFROM b:$V", "no value"),
        ("FROM a\nCOPY --from=$V x y", "not certain"),
        ("FROM a\nRUN --network=host true", "--network=host is not allowed"),
        ('FROM a\nRUN --mount=type=tmpfs,target=/x --network="host" true', "not allowed"),
        ("FROM a\nRUN --security=insecure true", "not allowed"),
        (f"FROM a\nONBUILD ADD {URL} /x", "ONBUILD may not fetch"),
        ("FROM a\nONBUILD ADD https://good.test/ /x", "ONBUILD may not fetch"),
        ("FROM a\nonbuild\tadd $X /x", "not certain"),
        ("FROM a\nONBUILD COPY --from=b x y", "not certain"),
        ("FROM a\nONBUILD RUN --network=host true", "not allowed"),
        ("FROM a\nONBUILD ONBUILD COPY x y", "may not set another"),
        (f"# escape=`\nFROM a\nADD --chown=1` {URL} /x", "a flag with '`'"),
        (f"FROM a\nADD --chown='1\\' --x=' {URL} /x", "a flag with"),
        (f"FROM a\nADD --chown=\u00e0{URL} /x", "a flag with '\u00e0'"),
        ("# escape=`\nFROM a\nCOPY --from=b\\c x y", "a flag with"),
        ("FROM a\nCOPY --from b x y", "has no value"),
        ("FROM a\nRUN --network host true", "has no value"),
        ("FROM --platform=linux/s390x a", "not supported"),
        ("FROM --platform=$TARGETPLATFORM a", "not supported"),
        ("FROM \ufeffa", "byte order mark"),
        ("FROM a\nADD \ufeffhttp://127.0.0.1/ /x", "byte order mark"),
        ("FROM ../containers", "no name of an image"),
        ("FROM a/../../containers", "no name of an image"),
        ("FROM a\nADD http://a\u3002test/ /x", "names no host"),
        ("FROM a\nONBU\u0130LD ADD x y", "no instruction"),
        ("FROM a\nRUN <<EOF\nx \\\nEOF", "needs BuildKit"),
        ("FROM a\nADD <<'#' /x", "needs BuildKit"),
        ("FROM a\nRUN $X<<EOF\nENV U=a/\nEOF\nADD $U /x", "needs BuildKit"),
        ("FROM a\nRUN ${X}2<<-EOF\nEOF", "needs BuildKit"),
        ("FROM a\nRUN ${X:-<<EOF}\nEOF", "needs BuildKit"),
        ("FROM a\nRUN x\\\\\nADD y z", "doubled escape"),
        ("FROM a\nRUN x \\\n\x1c# y\nADD y z", "control character"),
        ("FROM a\nRUN x\rADD y z", "control character"),
        ("FROM a\nADD \0x y", "control character"),
        ("# syntax=x\n# escape=`\nFROM a", "escape directive"),
        ("# escape=`x\nFROM a", "escape directive"),
        (" # escape=`\nFROM a", "escape directive"),
        ("#\u00a0escape=`\nFROM a", "escape directive"),
        ("FROM a\nADD http:///x y", "names no host"),
        ("FROM a\nADD http://127.0.0.1\\\\@good.test/ y", "names no host"),
        ("FROM a\nADD http://[::1/ y", "names no host"),
    ],
)
def test_what_is_not_certain_or_asks_for_the_host_is_refused(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_the_line_is_named() -> None:
    assert refusal("FROM a\n\nRUN \\\n true\nRUN --network=host true").startswith(
        "Dockerfile, line 5: RUN: "
    )


@pytest.mark.parametrize(
    "trigger",
    [
        f"ADD {URL} /x",
        "ADD $U /x",
        "COPY --from=b x y",
        "RUN --network=host true",
        f"\nADD {URL} /x",
        f"# escape=`\nADD {URL} /x",
        f"RUN true\rADD {URL} /x",
        f"ONBUILD ADD {URL} /x",
    ],
)
def test_triggers_of_a_base_image_may_not_fetch_either(trigger: str) -> None:
    with pytest.raises(StepError, match="the base image 'b' has a trigger") as caught:
        check_triggers("b", ["COPY . .", trigger])
    assert caught.value.kind == "unsafe_dockerfile"
    check_triggers("b", ["COPY package.json /x/", "RUN npm install", "COPY . ."])
