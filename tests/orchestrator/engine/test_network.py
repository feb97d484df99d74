"""Which addresses of a subnet are given, and what is read of networks and routes."""

from ipaddress import IPv4Network

from orchestrator.engine.network import (
    Network,
    address_management,
    addresses,
    link_addresses,
    next_address,
    parse_network,
    parse_routes,
)

SUBNET = IPv4Network("10.213.0.32/27")

ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	0100000A	0003	0	0	0	00000000	0	0	0
eth0	0000000A	00000000	0001	0	0	0	0000FFFF	0	0	0
br-1	2000D50A	00000000	0001	0	0	0	E0FFFFFF	0	0	0
"""


def test_the_engine_gives_others_the_upper_half_and_we_the_lower_one() -> None:
    (pool,) = address_management(SUBNET)["Config"]
    assert (pool["Subnet"], pool["IPRange"]) == ("10.213.0.32/27", "10.213.0.48/28")
    given = [str(address) for address in addresses(SUBNET)]
    assert (given[0], given[-1], len(given)) == ("10.213.0.34", "10.213.0.47", 14)


def test_addresses_are_given_in_turn() -> None:
    assert next_address(SUBNET, "", ()) == "10.213.0.34"
    assert next_address(SUBNET, "10.213.0.34", ()) == "10.213.0.35"
    assert next_address(SUBNET, "10.213.0.47", ()) == "10.213.0.34"
    assert next_address(SUBNET, "10.213.0.47", {"10.213.0.34", "10.213.0.35"}) == "10.213.0.36"
    assert next_address(SUBNET, "192.0.2.1", ()) == "10.213.0.34"
    assert next_address(SUBNET, "", map(str, addresses(SUBNET))) == ""


def test_in_a_link_the_one_who_calls_and_the_one_who_is_called_share_no_address() -> None:
    callers = link_addresses(SUBNET, is_caller=True)
    called = link_addresses(SUBNET, is_caller=False)
    assert callers[:2] == ["10.213.0.34", "10.213.0.36"]
    assert sorted(callers + called) == sorted(map(str, addresses(SUBNET)))


def test_the_routes_of_a_machine_are_read_but_for_the_default_one() -> None:
    assert parse_routes(ROUTES) == [
        ("eth0", IPv4Network("10.0.0.0/16")),
        ("br-1", IPv4Network("10.213.0.32/27")),
    ]


def test_a_network_is_read() -> None:
    listed = {
        "Id": "0123456789abcdef",
        "Name": "apps",
        "IPAM": {"Config": [{"Subnet": "10.213.0.32/27"}, {"Subnet": "fd00::/64"}]},
        "Options": None,
        "Labels": None,
    }
    network = parse_network(listed)
    assert network == Network("0123456789abcdef", "apps", (SUBNET,), "br-0123456789ab", {})
    assert not network.is_on_this_machine
    assert parse_network({**listed, "IPAM": None}).subnets == ()
    named = parse_network({**listed, "Options": {"com.docker.network.bridge.name": "lo"}})
    assert named.is_on_this_machine
