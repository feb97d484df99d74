"""Proves the edge's settings: where a value comes from, what each accepts, the page of docs."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from edge.cli.config_docs import options_table
from edge.errors import ConfigError
from edge.settings.settings import SETTINGS, Settings, load, read
from edge.settings.syntax import Address

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


class TestWhereAValueComesFrom:
    def test_without_flags_and_variables_every_setting_has_its_default(self) -> None:
        assert load({}, {}) == Settings()

    def test_the_defaults_are_those_that_the_design_binds(self) -> None:
        assert Settings() == Settings(
            db=Path("fairlead.db"),
            http_addr=(Address("", 80),),
            admin_addr=(Address("127.0.0.1", 8082),),
            poll_interval=1.0,
            max_head=32 * 1024,
            max_fields=100,
            max_target=8 * 1024,
            max_body=0,
            max_connections=10_000,
            head_timeout=10.0,
            body_timeout=30.0,
            idle_timeout=120.0,
            connect_timeout=5.0,
            response_timeout=60.0,
            stream_timeout=300.0,
            send_timeout=60.0,
            tunnel_timeout=3600.0,
            drain_timeout=30.0,
            pool_size=256,
            pool_idle=60.0,
            trusted_proxies=(),
            access_log="off",
            hide_server=True,
        )

    def test_a_flag_counts_before_every_variable(self) -> None:
        environ = {"FAIRLEAD_DB": "variable.db", "GODEPLOY_DB": "old.db"}
        assert load({"db": "flag.db"}, environ).db == Path("flag.db")

    def test_a_variable_of_fairlead_counts_before_one_of_godeploy_platform(self) -> None:
        environ = {"FAIRLEAD_DB": "variable.db", "GODEPLOY_DB": "old.db"}
        assert load({"db": None}, environ).db == Path("variable.db")

    def test_the_database_of_godeploy_platform_is_found_by_its_variable(self) -> None:
        assert load({}, {"GODEPLOY_DB": "old.db"}).db == Path("old.db")

    def test_an_empty_variable_counts_as_unset(self) -> None:
        assert load({}, {"FAIRLEAD_DB": "", "GODEPLOY_DB": "old.db"}).db == Path("old.db")

    def test_no_other_setting_is_read_from_a_variable_of_godeploy_platform(self) -> None:
        environ = {f"GODEPLOY_{each.name.upper()}": "1" for each in fields(Settings)}
        del environ["GODEPLOY_DB"]
        assert load({}, environ) == Settings()

    def test_an_empty_flag_takes_back_what_a_variable_says(self) -> None:
        environ = {"FAIRLEAD_TRUSTED_PROXIES": "10.0.0.0/8"}
        assert load({"trusted_proxies": ""}, environ).trusted_proxies == ()

    @pytest.mark.parametrize(
        ("flags", "environ", "origin"),
        [
            ({"max_head": "many"}, {"FAIRLEAD_MAX_HEAD": "32KiB"}, "--max-head: "),
            ({}, {"FAIRLEAD_MAX_HEAD": "many"}, "FAIRLEAD_MAX_HEAD: "),
            ({}, {"GODEPLOY_DB": " "}, "GODEPLOY_DB: "),
        ],
    )
    def test_an_error_names_where_the_bad_value_came_from(
        self, flags: dict[str, str | None], environ: dict[str, str], origin: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            load(flags, environ)
        assert str(caught.value).startswith(origin)

    def test_the_proxy_protocol_needs_proxies_to_trust(self) -> None:
        with pytest.raises(ConfigError, match="needs FAIRLEAD_TRUSTED_PROXIES: name the proxies"):
            load({"proxy_protocol": "true"}, {})
        assert load({"proxy_protocol": "true", "trusted_proxies": "10.0.0.0/8"}, {}).proxy_protocol

    def test_every_error_can_be_had_at_once(self) -> None:
        environ = {"FAIRLEAD_MAX_HEAD": "x", "FAIRLEAD_HTTP_ADDR": "y", "FAIRLEAD_POOL_SIZE": "7"}
        settings, errors = read({"proxy_protocol": "true"}, environ)
        assert list(errors) == ["http_addr", "max_head", "proxy_protocol"]
        assert str(errors["max_head"]).startswith("FAIRLEAD_MAX_HEAD: 'x' is not a size")
        assert settings.pool_size == 7

    def test_the_secrets_are_not_shown(self) -> None:
        settings = load({"api_token": "0123456789abcdef", "affinity_secret": "swordfish"}, {})
        assert "0123456789abcdef" not in repr(settings)
        assert "swordfish" not in repr(settings)
        with pytest.raises(ConfigError, match=r"^--api-token: the token is too short") as caught:
            load({"api_token": "swordfish"}, {})
        assert "swordfish" not in str(caught.value)

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Settings().db = Path("other.db")  # type: ignore[misc]  # the point of the test


class TestOtherValues:
    @pytest.mark.parametrize("text", ["off", "stdout", "/var/log/fairlead/access.log"])
    def test_the_access_log_takes_a_word_or_a_path(self, text: str) -> None:
        assert load({"access_log": text}, {}).access_log == text

    @pytest.mark.parametrize("name", ["db", "access_log"])
    def test_a_path_is_not_empty(self, name: str) -> None:
        with pytest.raises(ConfigError, match="path is empty"):
            load({name: ""}, {})

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("max_head", "1023"),
            ("max_target", "63"),
            ("max_fields", "0"),
            ("max_fields", "many"),
            ("max_connections", "0"),
            ("pool_size", "-1"),
            ("pool_size", "1000000000"),
            ("poll_interval", "0"),
            ("idle_timeout", "0.0"),
        ],
    )
    def test_a_value_that_nothing_could_be_served_with_is_refused(
        self, name: str, text: str
    ) -> None:
        with pytest.raises(ConfigError):
            load({name: text}, {})

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("max_head", "1KiB", 1024),
            ("max_target", "64", 64),
            ("max_fields", "1", 1),
            ("max_body", "0", 0),
            ("max_connections", "1", 1),
            ("pool_size", "0", 0),
            ("drain_timeout", "0", 0.0),
            ("poll_interval", "0.05", 0.05),
        ],
    )
    def test_the_least_value_that_means_something_is_taken(
        self, name: str, text: str, value: float
    ) -> None:
        assert getattr(load({name: text}, {}), name) == value


class TestDescriptions:
    def test_every_field_is_described_once_and_in_order(self) -> None:
        assert [each.name for each in SETTINGS] == [each.name for each in fields(Settings)]

    def test_a_setting_knows_its_flag_and_its_variables(self) -> None:
        first = SETTINGS[0]
        assert (first.flag, first.variables) == ("--db", ("FAIRLEAD_DB", "GODEPLOY_DB"))
        assert (SETTINGS[1].flag, SETTINGS[1].variables) == ("--http-addr", ("FAIRLEAD_HTTP_ADDR",))

    def test_every_meaning_is_one_sentence_at_least_and_fits_into_a_table(self) -> None:
        for each in SETTINGS:
            assert each.meaning.endswith(".")
            assert "\n" not in each.meaning
            assert "|" not in each.meaning

    def test_the_page_of_the_docs_is_what_the_settings_say(self) -> None:
        made = subprocess.run(
            [sys.executable, "-m", "edge.cli.config_docs"],
            cwd=PAGE.parents[1],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        page, begins, _ = PAGE.read_text().partition("<!-- Made by `make docs` from orchestrator/")
        assert begins
        assert page == made, "run `make docs`"

    def test_the_page_shows_every_setting_with_its_flag_and_default(self) -> None:
        page = PAGE.read_text()
        for each in SETTINGS:
            assert f"`FAIRLEAD_{each.name.upper()}`" in page
            assert f"| `{each.flag}` | {f'`{each.default}`' if each.default else 'empty'} |" in page


def test_the_table_of_route_options_is_that_of_the_code() -> None:
    assert f"\n{options_table()}\n" in (PAGE.parent / "behaviour.md").read_text()
