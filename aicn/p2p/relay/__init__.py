"""Circuit relay v2 (libp2p specs, relay/circuit-v2): connections through a third node, for peers that cannot be dialled.

`hop` is the relay itself, `client` the side of those who keep a place with relays, `circuit` one connection through a relay.
In place of upstream's libp2p.relay.circuit_v2, of which only the messages are used: its relay sends a limit even when there is none
(protocol.py:594, :690, :744), after which go peers refuse ordinary streams; its circuits do not work in private networks, name the
wrong peer as relay (:470), and cannot be dialled by peer id (transport.py:517).

Reservations come without the voucher of the specification: nothing asks for one, and go and js peers do without.
"""
