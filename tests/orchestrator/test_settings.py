"""Proves the settings: where a value comes from, what each syntax accepts, and the page of docs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge.errors import ConfigError
from edge.settings import settings as edge_config
from orchestrator import settings_syntax
from orchestrator.cli.config_docs import BEGINS, part
from orchestrator.settings import SETTINGS, Settings, load
from orchestrator.settings_syntax import Address

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

SEED = {
    *("ADDR", "DB", "NETWORK", "IMAGE_PREFIX", "HEALTH_PATH", "WEBHOOK_SECRET", "WEBHOOK_RPS"),
    *("WEBHOOK_BURST", "WS_ALLOWED_ORIGINS", "LOG_WS_URL", "BIND_DOCKER_SOCK"),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith(("FAIRLEAD_", "GODEPLOY_"))]:
        monkeypatch.delenv(name)


class TestWhereAValueComesFrom:
    def test_without_flags_and_variables_every_setting_has_its_default(self) -> None:
        settings = load()
        assert settings.addr == Address("127.0.0.1", 8081)
        assert settings.webhook_max_body == 2**20
        assert settings.health_status == frozenset(range(200, 400))
        assert settings.token_path == Path("fairlead.token")
        assert settings.control_path == Path("fairlead.sock")

    def test_a_flag_counts_before_a_variable_and_ours_before_the_seeds(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GODEPLOY_DB", "seed.db")
        assert load().db == Path("seed.db")
        monkeypatch.setenv("FAIRLEAD_DB", "ours.db")
        assert load({"db": None}).db == Path("ours.db")
        assert load({"db": "flag.db"}).db == Path("flag.db")

    def test_an_empty_variable_counts_as_unset(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAIRLEAD_ADDR", "")
        monkeypatch.setenv("GODEPLOY_ADDR", ":8081")
        assert load().addr == Address("", 8081)

    def test_the_eleven_variables_of_the_seed_are_read_and_no_other(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert {each.name.upper() for each in SETTINGS if len(each.variables) > 1} == SEED
        monkeypatch.setenv("GODEPLOY_MEMORY", "no size")
        assert load().memory == 256 * 2**20

    def test_every_error_is_a_line_that_names_where_the_value_came_from(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAIRLEAD_BUILDS", "0")
        monkeypatch.setenv("GODEPLOY_NETWORK", "host")
        with pytest.raises(ConfigError) as caught:
            load({"addr": "8081"})
        lines = str(caught.value).splitlines()
        origins = [line.partition(": ")[0] for line in lines]
        assert origins == ["--addr", "FAIRLEAD_BUILDS", "GODEPLOY_NETWORK"]
        assert "write host:port" in lines[0]

    def test_no_secret_is_shown_by_settings_or_errors(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAIRLEAD_WEBHOOK_SECRET", "swordfish")
        settings = load({"api_token": "0123456789abcdef"})
        assert settings.webhook_secret == "swordfish"
        assert "swordfish" not in repr(settings)
        assert "0123456789abcdef" not in str(settings)
        with pytest.raises(ConfigError) as caught:
            load({"api_token": "swordfish"})
        assert "swordfish" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            Settings().db = Path("other.db")


TEXTS = {
    "size": ("0", "7B", "32KiB", "2gib", " 1KiB ", "", "-1", "1.5MiB", "32KB", "٣", str(2**63)),
    "duration": ("0", "30", ".25", " 1 ", "31536000", "", "-1", "1.", "5s", "nan", "1e3"),
    "address": (":80", "[::1]:0", "a:65535", "", "8080", ":65536", "::1:80", "127.0.0:80", "a b:1"),
    "boolean": ("true", "YES", "on", "1", "off", "No", "0", "maybe", ""),
    "networks": ("", "10.0.0.0/8, 192.0.2.7", "10.0.0.1/8", "*", "2001:db8::/32"),
}
OURS: dict[str, Callable[[str], object]] = {
    "size": settings_syntax.size(0),
    "duration": settings_syntax.duration,
    "address": settings_syntax.address,
    "boolean": settings_syntax.boolean,
    "networks": settings_syntax.networks,
}
EDGES: dict[str, Callable[[str], object]] = {
    "size": edge_config.parse_size,
    "duration": edge_config.parse_duration,
    "address": edge_config.parse_address,
    "boolean": lambda text: edge_config.load({"hide_server": text}, {}).hide_server,
    "networks": lambda text: edge_config.load({"trusted_proxies": text}, {}).trusted_proxies,
}


def judged(parse: Callable[[str], object], text: str) -> object:
    """What becomes of a text: its value, or the end of the error."""
    try:
        return parse(text)
    except (ValueError, ConfigError) as error:
        return str(error).rpartition(f"{text!r} is ")[2]


class TestSyntax:
    @pytest.mark.parametrize(
        ("kind", "text"), [(kind, text) for kind, texts in TEXTS.items() for text in texts]
    )
    def test_it_is_the_edges(self, kind: str, text: str) -> None:
        assert judged(OURS[kind], text) == judged(EDGES[kind], text)

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("health_status", "200,301-303", frozenset({200, 301, 302, 303})),
            ("ws_allowed_origins", "https://A.example:8443", ("https://a.example:8443",)),
            (
                "image_prefix",
                "registry.example.com:5000/team/x",
                "registry.example.com:5000/team/x",
            ),
            ("webhook_max_body", "25MiB", 25 * 2**20),
            ("webhook_rps", "0.5", 0.5),
            ("health_path", "/a/b?deep=1", "/a/b?deep=1"),
            ("control_socket", "", None),
        ],
    )
    def test_what_fits_is_taken(self, name: str, text: str, value: object) -> None:
        assert getattr(load({name: text}), name) == value

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("health_status", "399-200"),
            ("health_status", "99"),
            ("ws_allowed_origins", "*"),
            ("ws_allowed_origins", "https://a.example/panel"),
            ("ws_allowed_origins", "https://user@a.example"),
            ("image_prefix", "Fairlead"),
            ("image_prefix", "a//b"),
            ("network", "bridge"),
            ("network", "-x"),
            ("webhook_max_body", "26MiB"),
            ("webhook_rps", "0"),
            ("webhook_burst", "0"),
            ("health_path", "//evil.example"),
            ("health_path", "/a\r\nHost: b"),
            ("health_path", "/@evil.example"),
            ("health_path", "healthz"),
            ("log_ws_url", "http://127.0.0.1/"),
            ("log_format", "xml"),
            ("memory", "1MiB"),
            ("api_token", "short"),
            ("db", " "),
        ],
    )
    def test_everything_else_is_refused_by_its_flag(self, name: str, text: str) -> None:
        with pytest.raises(ConfigError, match="^--" + name.replace("_", "-")):
            load({name: text})


class TestDescriptions:
    def test_every_meaning_is_one_sentence_at_least_and_fits_into_a_table(self) -> None:
        for each in SETTINGS:
            assert each.meaning.endswith(".")
            assert "\n" not in each.meaning
            assert "|" not in each.meaning

    def test_what_the_edge_has_too_is_written_alike(self) -> None:
        ours: dict[str, Any] = {each.name: each for each in SETTINGS}
        shared = [each for each in edge_config.SETTINGS if each.name in ours]
        assert {each.name for each in shared} == {
            *("db", "control_socket", "trusted_proxies", "drain_timeout")
        }
        for each in shared:
            mine = ours[each.name]
            assert (each.default, each.unit, each.variables) == (
                *(mine.default, mine.unit, mine.variables),
            )

    def test_the_page_of_the_docs_is_what_the_settings_say(self) -> None:
        _, begins, rest = PAGE.read_text().partition(BEGINS)
        assert begins + rest == part(), "run `make docs`"
