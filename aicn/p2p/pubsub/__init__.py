"""Topics: gossipsub 1.1 and floodsub in one mesh (libp2p specs, pubsub/gossipsub and pubsub).

Our own in place of upstream's libp2p.pubsub, of which only the generated messages are used. What that one does wrong: sequence
numbers start at the seconds of the clock (pubsub/pubsub.py:478), 32 messages per subscription and per peer, then silent loss (:124,
rpc_queue.py:39), own messages beyond 10 per second are dropped silently (gossipsub.py:190), a heartbeat of two minutes (:179), own
messages do not reach whom the mesh leaves out (:1091: go clients that list us as a direct peer hear nothing), one undecodable
message ends the host (pubsub.py:562), and neither messages, control entries nor bytes of one peer have a limit.

Left out, and why: peer scores (each peer pays for what it sends by waiting, see service.py; the network is private) and peer
exchange in PRUNE (the DHT's rendezvous does that).
"""
