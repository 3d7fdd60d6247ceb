"""The distributed hash table: Kademlia as libp2p has it (libp2p specs, kad-dht).

Our own in place of upstream's libp2p.kad_dht, of which only the generated messages are used. What that one does wrong: the protocol
prefix is a constant (kad_dht/kad_dht.py:269), whoever asks is taken for a server (:632), whom we only heard of enters the table
before anybody spoke with it (kad_dht/peer_routing.py:377), twelve inbound streams block all others (kad_dht.py:327), a lookup asks
the whole neighbourhood (peer_routing.py:158), `find_providers` stops at the local store after an own `provide`
(kad_dht/provider_store.py:370) and stores what others answered as if it had been announced (:417), repeats providers, and keeps
any number of keys and 50,000 values for strangers.
"""
