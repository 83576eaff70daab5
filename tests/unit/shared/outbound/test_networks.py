from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.outbound.networks import REFUSED_IPV4, is_inside, is_internet, parse_networks


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450::1"])
def test_addresses_of_the_internet_are_let_through(address):
    assert is_internet(address)


@given(st.ip_addresses())
@example(ip_address("64:ff9b::a9fe:a9fe"))
@example(ip_address("192.0.0.192"))
def test_what_python_knows_to_be_internal_is_refused(address):
    if not address.is_global or address.is_multicast:
        assert not is_internet(str(address))


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
def test_ipv4_inside_of_ipv6_is_refused_in_every_form(address):
    number = int(address)
    forms = [
        number,  # compatible
        0xFFFF << 32 | number,  # mapped
        0xFFFF << 48 | number,  # translated
        0x64FF9B << 96 | number,  # NAT64
        0x64FF9B0001 << 80 | number,  # NAT64 of a network of its own
        0x2002 << 112 | number << 80,  # 6to4
        0x20010000 << 96 | number ^ 0xFFFFFFFF,  # Teredo
    ]

    assert not any(is_internet(str(ip_address(form.to_bytes(16, "big")))) for form in forms)


@pytest.mark.parametrize("network", REFUSED_IPV4, ids=str)
def test_a_refused_network_is_refused_from_its_first_to_its_last_address(network):
    assert not is_internet(str(network[0]))
    assert not is_internet(str(network[-1]))


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "0x7f000001", "127.0.0.1/32", "10.0.0.1 "])
def test_what_is_no_address_is_not_one_of_the_internet_nor_in_any_network(text):
    assert not is_internet(text)
    assert not is_inside(text, [ip_network("0.0.0.0/0")])


def test_networks_are_listed_between_commas():
    assert parse_networks(" 10.1.0.0/16,fd00::/8, ,127.0.0.1") == (
        ip_network("10.1.0.0/16"),
        ip_network("fd00::/8"),
        ip_network("127.0.0.1/32"),
    )


def test_ipv4_inside_of_ipv6_is_in_no_network_of_ipv4():
    assert not is_inside("::ffff:127.0.0.1", parse_networks("127.0.0.0/8"))
