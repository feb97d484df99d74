"""Proves the settings: where a value comes from, what each accepts, and the page of docs."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ConfigError
from edge.settings import settings as edge_settings
from edge.settings.syntax import Address
from orchestrator.cli.config_docs import BEGINS, part
from orchestrator.settings import SETTINGS, Settings, load

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

SEED = {
    *("ADDR", "DB", "NETWORK", "IMAGE_PREFIX", "HEALTH_PATH", "WEBHOOK_SECRET", "WEBHOOK_RPS"),
    *("WEBHOOK_BURST", "WS_ALLOWED_ORIGINS", "LOG_WS_URL", "BIND_DOCKER_SOCK"),
}


@pytest.mark.parametrize(
    ("proxies", "trusts"),
    [("", False), ("127.0.0.1,fd00::/8,10.0.0.0/9", False), ("10.0.0.0/8", True)],
)
def test_proxies_that_containers_could_pass_for_are_recognised(proxies: str, trusts: bool) -> None:
    assert load({"trusted_proxies": proxies}, {}).trusts_containers is trusts


class TestWhereAValueComesFrom:
    def test_without_flags_and_variables_every_setting_has_its_default(self) -> None:
        settings = load({}, {})
        assert settings == Settings()
        assert settings.addr == Address("127.0.0.1", 8081)
        assert settings.webhook_max_body == 2**20
        assert settings.health_status == frozenset(range(200, 400))
        assert settings.api_path == Path("fairlead.api.sock")
        assert settings.state_path == Path("fairlead.state.db")
        assert settings.control_path == Path("fairlead.sock")

    def test_a_flag_counts_before_a_variable_and_ours_before_the_seeds(self) -> None:
        environ = {"GODEPLOY_DB": "seed.db"}
        assert load({}, environ).db == Path("seed.db")
        environ["FAIRLEAD_DB"] = "ours.db"
        assert load({"db": None}, environ).db == Path("ours.db")
        assert load({"db": "flag.db"}, environ).db == Path("flag.db")

    def test_an_empty_variable_counts_as_unset(self) -> None:
        environ = {"FAIRLEAD_ADDR": "", "GODEPLOY_ADDR": ":8081"}
        assert load({}, environ).addr == Address("", 8081)

    def test_the_eleven_variables_of_the_seed_are_read_and_no_other(self) -> None:
        assert {each.name.upper() for each in SETTINGS if len(each.variables) > 1} == SEED
        assert load({}, {"GODEPLOY_MEMORY": "no size"}).memory == 256 * 2**20

    def test_every_error_is_a_line_that_names_where_the_value_came_from(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load({"addr": "8081"}, {"FAIRLEAD_BUILDS": "0", "GODEPLOY_NETWORK": "host"})
        lines = str(caught.value).splitlines()
        origins = [line.partition(": ")[0] for line in lines]
        assert origins == ["--addr", "FAIRLEAD_BUILDS", "GODEPLOY_NETWORK"]
        assert "write host:port" in lines[0]

    def test_no_secret_is_shown_by_settings_or_errors(self) -> None:
        settings = load({"api_token": "0123456789abcdef"}, {"FAIRLEAD_WEBHOOK_SECRET": "swordfish"})
        assert settings.webhook_secret == "swordfish"
        assert "swordfish" not in repr(settings)
        assert "0123456789abcdef" not in str(settings)
        with pytest.raises(ConfigError, match=r"^--api-token: the token is too short") as caught:
            load({"api_token": "swordfish"}, {})
        assert "swordfish" not in str(caught.value)
        assert caught.value.__context__ is None

    def test_settings_cannot_be_changed(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Settings().db = Path("other.db")  # type: ignore[misc]  # the point of the test

    def test_a_burst_refills_within_a_day(self) -> None:
        with pytest.raises(ConfigError, match=r"^FAIRLEAD_WEBHOOK_BURST would take more than"):
            load({"webhook_rps": "0.0001", "webhook_burst": "9"}, {})
        assert load({"webhook_rps": "0.0001", "webhook_burst": "8"}, {}).webhook_burst == 8


class TestSyntax:
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
        assert getattr(load({name: text}, {}), name) == value

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("health_status", "399-200"),
            ("health_status", "99"),
            ("health_status", "101"),
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
            load({name: text}, {})


class TestState:
    def test_what_is_the_orchestrators_alone_is_beside_its_database(self) -> None:
        settings = load({}, {"FAIRLEAD_STATE_DB": "/own/state.db", "FAIRLEAD_DB": "/both/r.db"})
        assert settings.control_path == Path("/both/r.sock")
        assert settings.api_path == Path("/own/state.api.sock")
        assert settings.lock_path == Path("/own/state.lock")
        assert settings.logs_folder == Path("/own/state.deploys")
        assert settings.work_folder == Path("/own/state.work")

    def test_the_edge_does_not_read_it(self) -> None:
        with pytest.raises(ConfigError, match="FAIRLEAD_STATE_DB"):
            load({}, {"FAIRLEAD_STATE_DB": "/both/r.db", "FAIRLEAD_DB": "/both/r.db"})


class TestDescriptions:
    def test_every_meaning_is_one_sentence_at_least_and_fits_into_a_table(self) -> None:
        for each in SETTINGS:
            assert each.meaning.endswith(".")
            assert "\n" not in each.meaning
            assert "|" not in each.meaning

    def test_what_the_edge_has_too_is_written_alike(self) -> None:
        ours: dict[str, Any] = {each.name: each for each in SETTINGS}
        shared = [each for each in edge_settings.SETTINGS if each.name in ours]
        assert {each.name for each in shared} == {
            *("db", "control_socket", "trusted_proxies", "drain_timeout"),
            *("api_token", "metrics_auth"),
        }
        for each in shared:
            mine = ours[each.name]
            assert (each.default, each.unit, each.variables) == (
                *(mine.default, mine.unit, mine.variables),
            )

    def test_the_page_of_the_docs_is_what_the_settings_say(self) -> None:
        _, begins, rest = PAGE.read_text().partition(BEGINS)
        assert begins + rest == part(), "run `make docs`"
