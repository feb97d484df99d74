"""Proves `edge.wire.proxy_protocol` against haproxy's proxy-protocol.txt, version 1 and 2."""

import ipaddress
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.wire.proxy_protocol import (
    MAX_BINARY,
    MAX_LINE,
    ProxyHeader,
    ProxyHeaderError,
    parse_proxy_header,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST = ":".join(["ffff"] * 8)
SMALL = settings(max_examples=100, derandomize=True, deadline=None)


def binary(command: int, family: int, rest: bytes) -> bytes:
    """A header of version 2; `command` and `family` are its 13th and 14th byte."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def addresses(source: str, destination: str) -> bytes:
    """The block of addresses of TCP over IPv4 or IPv6."""
    packed = [ipaddress.ip_address(each).packed for each in (source, destination)]
    return b"".join(packed) + struct.pack("!HH", 1, 2)


TCP4 = binary(0x21, 0x11, addresses("192.0.2.1", "192.0.2.2"))
TCP6 = binary(0x21, 0x21, addresses("2001:db8::1", "2001:db8::2"))

WHOLE = [
    (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "192.0.2.1"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255"),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0"),
    (b"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n", "2001:db8::1"),
    (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1"),
    (f"PROXY TCP6 {LONGEST} {LONGEST} 65535 65535\r\n".encode(), LONGEST),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 16) + b"\r\n", None),
    (b"PROXY UNKNOWN \0\xff 1\r\n", None),
    (TCP4, "192.0.2.1"),
    (TCP6, "2001:db8::1"),
    (binary(0x21, 0x21, addresses("::ffff:192.0.2.1", "::1")), "192.0.2.1"),
    (binary(0x21, 0x11, addresses("192.0.2.1", "192.0.2.2") + b"\x04\0\1x"), "192.0.2.1"),
    (binary(0x21, 0x11, addresses("1.2.3.4", "1.2.3.4").ljust(MAX_BINARY - 16)), "1.2.3.4"),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, addresses("192.0.2.1", "192.0.2.2")), None),
    (binary(0x20, 0xFF, b"void"), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x12, addresses("192.0.2.1", "192.0.2.2")), None),
    (binary(0x21, 0x31, b"/run/a".ljust(108, b"\0") * 2), None),
]
MALFORMED = [
    b"GET / HTTP/1.1\r\n",
    b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.256 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UNKNOWNX\r\n",
    b"PROXY UNKNOWN a\nb\r\n",
    b"PROXY UNKNOWN " + b"x" * (MAX_LINE - 15) + b"\r\n",
    b"PROXY " + b"x" * (MAX_LINE - 6),
    SIGNATURE[:-1] + b"\r",
    binary(0x22, 0x11, addresses("192.0.2.1", "192.0.2.2")),
    binary(0x11, 0x11, addresses("192.0.2.1", "192.0.2.2")),
    binary(0x21, 0x41, b"x" * 300),
    binary(0x21, 0x13, addresses("192.0.2.1", "192.0.2.2")),
    binary(0x21, 0x11, addresses("192.0.2.1", "192.0.2.2")[:-1]),
    binary(0x21, 0x21, addresses("192.0.2.1", "192.0.2.2")),
    binary(0x21, 0x31, b"x" * 215),
    SIGNATURE + struct.pack("!BBH", 0x20, 0, MAX_BINARY - 15),
]


def source_of(header: ProxyHeader | None) -> str | None:
    assert header is not None
    return header.source


@pytest.mark.parametrize(("header", "source"), WHOLE)
def test_a_header_is_read_whole_byte_by_byte_and_with_a_request_behind_it(
    header: bytes, source: str | None
) -> None:
    for end in range(len(header)):
        assert parse_proxy_header(header[:end]) is None
    for behind in (b"", b"G", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", SIGNATURE):
        assert parse_proxy_header(header + behind) == ProxyHeader(len(header), source)


@pytest.mark.parametrize("data", MALFORMED)
def test_what_is_no_header_is_refused_with_and_without_more_behind_it(data: bytes) -> None:
    for behind in (b"", b"\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with pytest.raises(ProxyHeaderError):
            parse_proxy_header(data + behind)


@SMALL
@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 65535), st.integers(0, 300))
def test_every_address_survives_both_versions(
    source: ipaddress.IPv4Address | ipaddress.IPv6Address,
    other: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    extra: int,
) -> None:
    version = source.version
    destination = other if other.version == version else source
    expected = getattr(source, "ipv4_mapped", None) or source
    line = f"PROXY TCP{version} {source} {destination} {port} {port}\r\n".encode()
    assert source_of(parse_proxy_header(line)) == str(expected)
    block = addresses(str(source), str(destination)) + b"t" * extra
    assert source_of(parse_proxy_header(binary(0x21, 0x11 if version == 4 else 0x21, block))) == (
        str(expected)
    )


@SMALL
@given(st.sampled_from([header for header, _ in WHOLE]), st.data())
def test_no_bytes_at_all_make_it_fail_in_another_way(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)))
    noise = data.draw(st.binary(max_size=40))
    whole = good[:at] + noise
    try:
        header = parse_proxy_header(whole)
    except ProxyHeaderError:
        return
    if header is None:
        assert len(whole) < MAX_BINARY
    else:
        assert 0 < header.size <= len(whole)
