"""Proves the mechanism of settings on a list of its own: sources, errors, secrets, descriptions."""

import re
import traceback
from collections.abc import Collection
from dataclasses import dataclass, replace

import pytest

from edge.errors import ConfigError
from edge.settings.markdown import tables
from edge.settings.schema import Schema, secret, setting
from edge.settings.syntax import count_from, parse_boolean


@dataclass(frozen=True, slots=True)
class Kitchen:
    """Three settings and two secrets."""

    ovens: int = setting("Heat", "2", count_from(1), "count", "Number of ovens.", godeploy=True)
    gas: bool = setting("Heat", "false", parse_boolean, "true or false", "Burn gas.")
    cooks: int = setting("People", "", lambda text: len(text.split()), "names", "Who cooks.")
    key: str = secret("People", "Key of the door.", fits=re.compile("k[0-9]+"), rule="not a key")
    recipe: str = secret("People", "Our recipe.", godeploy=True)


def check(kitchen: Kitchen, refused: Collection[str]) -> dict[str, ConfigError]:
    """Gas needs a cook."""
    if kitchen.gas and not kitchen.cooks and "cooks" not in refused:
        return {"gas": ConfigError("FAIRLEAD_GAS needs FAIRLEAD_COOKS")}
    return {}


SCHEMA = Schema(Kitchen, check)


class TestSources:
    def test_a_flag_counts_before_our_variable_and_that_before_godeploys(self) -> None:
        environ = {"GODEPLOY_OVENS": "3"}
        assert SCHEMA.load({}, environ).ovens == 3
        environ["FAIRLEAD_OVENS"] = "4"
        assert SCHEMA.load({"ovens": None}, environ).ovens == 4
        assert SCHEMA.load({"ovens": "5"}, environ).ovens == 5

    def test_without_any_there_is_the_default(self) -> None:
        assert SCHEMA.load({}, {}) == Kitchen(2, False, 0, "", "")

    def test_an_empty_variable_counts_as_unset_an_empty_flag_as_empty(self) -> None:
        assert SCHEMA.load({}, {"FAIRLEAD_OVENS": "", "GODEPLOY_OVENS": "3"}).ovens == 3
        assert SCHEMA.load({"cooks": ""}, {"FAIRLEAD_COOKS": "Ann Bo"}).cooks == 0

    def test_godeploys_variable_is_read_only_where_there_was_one(self) -> None:
        assert SCHEMA.load({}, {"GODEPLOY_GAS": "neither"}).gas is False

    def test_given_texts_are_flags_that_give_the_same_again(self) -> None:
        environ = {"GODEPLOY_OVENS": "3", "FAIRLEAD_KEY": "k1", "FAIRLEAD_COOKS": ""}
        texts = SCHEMA.given_texts({"gas": "no"}, environ)
        assert texts == {"ovens": "3", "gas": "no", "key": "k1"}
        assert SCHEMA.load(texts, {}) == SCHEMA.load({"gas": "no"}, environ)


class TestErrors:
    def test_each_is_a_line_that_names_where_the_value_came_from(self) -> None:
        environ = {"GODEPLOY_OVENS": "0", "FAIRLEAD_KEY": "k"}
        with pytest.raises(ConfigError) as caught:
            SCHEMA.load({"gas": "neither"}, environ)
        assert str(caught.value).splitlines() == [
            "GODEPLOY_OVENS: '0' is not a whole number from 1 to 999999999",
            "--gas: 'neither' is not a boolean: write true or false",
            "FAIRLEAD_KEY: not a key",
        ]

    def test_a_refused_field_has_its_default_beside_the_error(self) -> None:
        kitchen, errors = SCHEMA.read({"ovens": "none", "cooks": "Ann"}, {})
        assert (kitchen.ovens, kitchen.cooks, list(errors)) == (2, 1, ["ovens"])

    def test_what_is_wrong_together_is_an_error_of_one_field(self) -> None:
        with pytest.raises(ConfigError, match=r"^FAIRLEAD_GAS needs FAIRLEAD_COOKS$"):
            SCHEMA.load({"gas": "yes"}, {})
        assert SCHEMA.load({"gas": "yes", "cooks": "Ann"}, {}).gas


class TestSecrets:
    def test_no_value_is_shown_by_repr(self) -> None:
        kitchen = SCHEMA.load({"key": "k123"}, {"GODEPLOY_RECIPE": "saffron"})
        assert (kitchen.key, kitchen.recipe) == ("k123", "saffron")
        for shown in (repr(kitchen), str(replace(kitchen, ovens=7))):
            assert "k123" not in shown
            assert "saffron" not in shown

    def test_no_value_is_shown_by_an_error_or_its_traceback(self) -> None:
        flags = {"key": "saffron"}
        with pytest.raises(ConfigError) as caught:
            SCHEMA.load(flags, {})
        assert str(caught.value) == "--key: not a key"
        assert "saffron" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None

    def test_an_empty_one_is_none(self) -> None:
        assert SCHEMA.load({"key": ""}, {"FAIRLEAD_KEY": "k1"}).key == ""


class TestDescriptions:
    def test_a_setting_knows_its_flag_its_variables_and_its_help(self) -> None:
        ovens, gas, cooks, key, _ = SCHEMA.settings
        assert (ovens.flag, ovens.variables) == ("--ovens", ("FAIRLEAD_OVENS", "GODEPLOY_OVENS"))
        assert (gas.flag, gas.variables) == ("--gas", ("FAIRLEAD_GAS",))
        variables = "FAIRLEAD_OVENS, GODEPLOY_OVENS"
        assert ovens.help == f"Number of ovens.  [count; env var: {variables}; default: 2]"
        assert cooks.help == "Who cooks.  [names; env var: FAIRLEAD_COOKS; default: none]"
        assert key.unit == "text"

    def test_the_documentation_has_a_table_per_topic(self) -> None:
        assert tables(SCHEMA.settings).splitlines() == [
            "## Heat",
            "",
            "| setting | flag | default | unit | meaning |",
            "| --- | --- | --- | --- | --- |",
            "| `FAIRLEAD_OVENS`, `GODEPLOY_OVENS` | `--ovens` | `2` | count | Number of ovens. |",
            "| `FAIRLEAD_GAS` | `--gas` | `false` | true or false | Burn gas. |",
            "",
            "## People",
            "",
            "| setting | flag | default | unit | meaning |",
            "| --- | --- | --- | --- | --- |",
            "| `FAIRLEAD_COOKS` | `--cooks` | empty | names | Who cooks. |",
            "| `FAIRLEAD_KEY` | `--key` | empty | text | Key of the door. |",
            "| `FAIRLEAD_RECIPE`, `GODEPLOY_RECIPE` | `--recipe` | empty | text | Our recipe. |",
        ]
