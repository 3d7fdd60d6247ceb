"""An internet with two homes: a public segment, and on it two masquerading routers with one node each behind them.

              internet (a bridge, 45.33.0.0/24)
   ┌───────────────┬───────────────┬───────────────┐
 public          router A        router B
 45.33.0.1       45.33.0.11      45.33.0.12
                 10.1.0.1        10.2.0.1
                   │               │
                 node A          node B
                 10.1.0.2        10.2.0.2

The public addresses are of a range that the whole internet may use, since nodes tell such addresses from private ones; they exist in
these namespaces only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.nat.namespaces import Namespace, open_namespace

PUBLIC = "45.33.0.1"


@dataclass(frozen=True)
class Home:
    """A router, and the node behind it."""

    router: Namespace
    node: Namespace
    router_ip: str  # towards the internet
    node_ip: str  # at home


@dataclass(frozen=True)
class Internet:
    """The whole test network."""

    bridge: Namespace
    public: Namespace
    a: Home
    b: Home

    def cut(self, home: Home) -> None:
        """The home's line is dead: packets are lost in both directions, and nobody is told."""
        self.bridge.run(f"ip link set {_port(home.router)} down")

    def mend(self, home: Home) -> None:
        self.bridge.run(f"ip link set {_port(home.router)} up")


@contextmanager
def open_internet(*, symmetric: bool = False) -> Iterator[Internet]:
    """The network above, gone with the block.

    The routers keep a node's port where they can, so that all who are asked see the same one (endpoint-independent mapping), and
    let in only what answers something sent out (address and port dependent filtering). `symmetric`: each connection gets a random port.
    """
    with ExitStack() as stack:
        bridge, public = (stack.enter_context(open_namespace()) for _ in range(2))
        bridge.run("ip link add br0 type bridge")
        bridge.run("ip link set br0 up")
        _plug_in(bridge, public, f"{PUBLIC}/24")
        homes = [_home(stack, bridge, number, symmetric=symmetric) for number in (1, 2)]
        yield Internet(bridge, public, *homes)


def _home(stack: ExitStack, bridge: Namespace, number: int, *, symmetric: bool) -> Home:
    router, node = (stack.enter_context(open_namespace()) for _ in range(2))
    home = Home(router, node, f"45.33.0.1{number}", f"10.{number}.0.2")
    _plug_in(bridge, router, f"{home.router_ip}/24")
    router.run(f"ip link add lan type veth peer name eth0 netns {node.pid}")
    router.run(f"ip addr add 10.{number}.0.1/24 dev lan")
    router.run("ip link set lan up")
    node.run(f"ip addr add {home.node_ip}/24 dev eth0")
    node.run("ip link set eth0 up")
    node.run(f"ip route add default via 10.{number}.0.1")
    router.forward_packets()
    mapping = "--random-fully" if symmetric else ""
    for rule in (
        f"-t nat -A POSTROUTING -o eth0 -j MASQUERADE {mapping}",
        "-P FORWARD DROP",
        "-A FORWARD -i lan -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        "-A INPUT -i eth0 -m conntrack --ctstate NEW -j DROP",  # a home router does not answer strangers with a reset
    ):
        router.run(f"iptables -w {rule}")
    return home


def _plug_in(bridge: Namespace, host: Namespace, address: str) -> None:
    """Give `host` an eth0 on the public segment."""
    port = _port(host)
    bridge.run(f"ip link add {port} type veth peer name eth0 netns {host.pid}")
    bridge.run(f"ip link set {port} master br0 up")
    host.run(f"ip addr add {address} dev eth0")
    host.run("ip link set eth0 up")


def _port(host: Namespace) -> str:
    """The bridge's end of the line to `host`."""
    return f"port{host.pid}"
