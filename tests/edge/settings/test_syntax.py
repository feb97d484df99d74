"""Proves what each syntax of a setting accepts, and that an error says what fits."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.settings.syntax import (
    Address,
    count_from,
    parse_address,
    parse_addresses,
    parse_boolean,
    parse_decimal,
    parse_duration,
    parse_name_servers,
    parse_networks,
    parse_optional_path,
    parse_path,
    parse_positive_duration,
    parse_size,
    size_between,
)


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("0", 0),
            ("4096", 4096),
            ("7B", 7),
            ("32KiB", 32768),
            ("10MiB", 10 * 2**20),
            ("2gib", 2 * 2**30),
            (" 1KiB ", 1024),
            ("9223372036854775807", 2**63 - 1),
        ],
    )
    def test_bytes_and_binary_units_are_read(self, text: str, size: int) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize(
        "text",
        ["", "-1", "+1", "1.5MiB", "32KB", "32 KiB", "KiB", "1_000", "٣", "0x10", "8589934592GiB"],
    )
    def test_everything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(ConfigError, match="such as 32KiB"):
            parse_size(text)

    def test_one_byte_more_than_an_integer_of_sqlite_holds_is_refused(self) -> None:
        with pytest.raises(ConfigError):
            parse_size(str(2**63))

    def test_limits_are_named(self) -> None:
        parse = size_between(1024, 2**20)
        assert (parse("1KiB"), parse("1MiB")) == (1024, 2**20)
        with pytest.raises(ConfigError, match="'1023' is too small: the minimum is 1024 bytes"):
            parse("1023")
        with pytest.raises(ConfigError, match="'2MiB' is too large: the maximum is 1048576 bytes"):
            parse("2MiB")


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("0", 0.0),
            ("30", 30.0),
            ("0.5", 0.5),
            (".25", 0.25),
            (" 1 ", 1.0),
            ("31536000", 3.1536e7),
        ],
    )
    def test_seconds_are_read(self, text: str, seconds: float) -> None:
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize(
        "text", ["", "-1", "1.", "5s", "1m", "nan", "inf", "1e3", "1_0", "31536001", "٣"]
    )
    def test_everything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(ConfigError, match="write seconds"):
            parse_duration(text)

    def test_a_positive_one_is_above_zero(self) -> None:
        assert parse_positive_duration("0.05") == 0.05
        with pytest.raises(ConfigError, match="write seconds above 0"):
            parse_positive_duration("0.0")


class TestNumbers:
    @pytest.mark.parametrize(("text", "number"), [("5", 5.0), (".5", 0.5), ("100000", 100_000.0)])
    def test_decimals_are_read(self, text: str, number: float) -> None:
        assert parse_decimal(text) == number

    @pytest.mark.parametrize("text", ["", "0", "0.0", "-1", "1e3", "nan", "100001", "٣"])
    def test_no_other_decimal_is(self, text: str) -> None:
        with pytest.raises(ConfigError, match="is not a number above 0"):
            parse_decimal(text)

    def test_a_count_is_a_whole_number_from_its_minimum(self) -> None:
        assert count_from(0)(" 0 ") == 0
        assert count_from(1)("999999999") == 999_999_999
        for text in ("0", "-1", "1.5", "1000000000", "many", "", "٣"):
            with pytest.raises(ConfigError, match="is not a whole number from 1 to 999999999"):
                count_from(1)(text)


class TestPaths:
    @pytest.mark.parametrize("text", ["", " "])
    def test_a_path_is_not_empty_unless_it_is_optional(self, text: str) -> None:
        with pytest.raises(ConfigError, match="path is empty"):
            parse_path(text)
        assert parse_optional_path(text) is None

    def test_it_is_taken_as_it_is(self) -> None:
        assert parse_path("a b/c") == parse_optional_path("a b/c") == Path("a b/c")


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            (":80", Address("", 80)),
            ("127.0.0.1:8082", Address("127.0.0.1", 8082)),
            ("[::1]:0", Address("::1", 0)),
            ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
            ("localhost:65535", Address("localhost", 65535)),
            ("edge-1.example.com:80", Address("edge-1.example.com", 80)),
        ],
    )
    def test_an_address_is_read_and_written_alike(self, text: str, address: Address) -> None:
        assert parse_address(text) == address
        assert str(address) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "8080",
            "localhost",
            "localhost:",
            "localhost:http",
            ":65536",
            ":-1",
            ":123456",
            "::1:80",
            "[127.0.0.1]:80",
            "[::zz]:80",
            "[]:80",
            "127.0.0.1000:80",
            "127.0.0:80",
            "-x:80",
            ".:80",
            "a b:80",
            "user@host:80",
            "http://host:80",
        ],
    )
    def test_everything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="is not an address"):
            parse_address(text)

    def test_commas_separate_several(self) -> None:
        assert parse_addresses("127.0.0.1:80, [::1]:80") == (
            Address("127.0.0.1", 80),
            Address("::1", 80),
        )

    @pytest.mark.parametrize("text", ["", ":80,", ":80,,:81"])
    def test_a_list_has_no_empty_item(self, text: str) -> None:
        with pytest.raises(ConfigError, match="is not an address"):
            parse_addresses(text)


class TestNameServers:
    def test_addresses_of_both_families_are_read_with_and_without_a_port(self) -> None:
        assert parse_name_servers("10.0.0.2, 10.0.0.3:5353,2001:db8::2, [::1]:54,[::1]") == (
            Address("10.0.0.2", 53),
            Address("10.0.0.3", 5353),
            Address("2001:db8::2", 53),
            Address("::1", 54),
            Address("::1", 53),
        )

    def test_there_may_be_none(self) -> None:
        assert parse_name_servers(" ") == ()

    @pytest.mark.parametrize(
        "text", ["dns.example.com", "dns.example.com:53", ":53", "10.0.0.2,", "10.0.0.2:dns"]
    )
    def test_everything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"write an IP address, perhaps with a port, such as"):
            parse_name_servers(text)


class TestNetworks:
    def test_networks_and_single_addresses_of_both_families_are_read(self) -> None:
        assert parse_networks("10.0.0.0/8, 192.0.2.7,2001:db8::/32") == (
            ip_network("10.0.0.0/8"),
            ip_network("192.0.2.7/32"),
            ip_network("2001:db8::/32"),
        )

    def test_bits_behind_the_prefix_are_refused_with_the_network_that_was_meant(self) -> None:
        with pytest.raises(ConfigError, match=r"did you mean 10\.0\.0\.0/8\?"):
            parse_networks("10.0.0.1/8")

    @pytest.mark.parametrize("text", ["proxy.example.com", "10.0.0.0/33", "10.0.0.0/8,", "*"])
    def test_everything_else_is_refused_with_an_example(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"write 10\.0\.0\.0/8"):
            parse_networks(text)


class TestBooleans:
    @pytest.mark.parametrize("text", ["true", "TRUE", "yes", "on", "1"])
    def test_true_has_several_spellings(self, text: str) -> None:
        assert parse_boolean(text) is True

    @pytest.mark.parametrize("text", ["false", "No", "off", "0"])
    def test_false_has_several_spellings(self, text: str) -> None:
        assert parse_boolean(text) is False

    @pytest.mark.parametrize("text", ["maybe", ""])
    def test_another_word_is_no_boolean(self, text: str) -> None:
        with pytest.raises(ConfigError, match="is not a boolean"):
            parse_boolean(text)
