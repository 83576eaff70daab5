"""Which addresses nothing is sent to, whoever asks for it.

Not `ipaddress.is_global`: for it, forms that carry an internal IPv4 address (NAT64, 6to4) and 192.0.0.192, the metadata
of a large cloud, are the internet.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

# https://www.iana.org/assignments/iana-ipv4-special-registry, and what no registry knows.
REFUSED_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; Linux connects 0.0.0.0 to itself
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by providers (CGNAT); 100.100.100.200 is the metadata of a cloud
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a public address that is the metadata of a cloud
        "169.254.0.0/16",  # link-local; 169.254.169.254 is the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; 192.0.0.192 is the metadata of a cloud
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

# All that is the internet. Outside of it are loopback, IPv4 inside of IPv6 (mapped, compatible, translated, NAT64),
# unique local (fc00::/7), link-local, site-local, multicast, and what nobody has a use for yet.
GLOBAL_UNICAST = IPv6Network("2000::/3")

# https://www.iana.org/assignments/iana-ipv6-special-registry, as far as it is inside of the above.
REFUSED_IPV6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks that the text lists, as `10.1.0.0/16, fd00::/8`.

    Raises:
        ValueError: One is no network, or has bits set beyond its prefix.
    """
    return tuple(ip_network(network.strip()) for network in text.split(",") if network.strip())


def is_internet(address: str) -> bool:
    """Tell whether a numeric address is one that anybody on the internet could reach; what is no address is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if parsed.version == 4:  # noqa: PLR2004 - the number is the name of the protocol
        return not _is_among(address, REFUSED_IPV4)
    return parsed in GLOBAL_UNICAST and not _is_among(address, REFUSED_IPV6)


def is_inside(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether a numeric address is in one of the networks. IPv4 inside of IPv6 is never in one of IPv4."""
    try:
        return _is_among(address, networks)
    except ValueError:
        return False


def _is_among(address: str, networks: Sequence[Network]) -> bool:
    parsed = ip_address(address)
    return any(parsed in network for network in networks)
