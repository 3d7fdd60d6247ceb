"""This node as a member of the existing network (docs/wire.md, "Legacy").

conversation   messages on the topic: questions, their answers, heartbeats; what may pass
at_work        the questions of others that are being answered: which, and how many they may be
answering      what they are answered
asking         our questions to nodes that speak nothing newer
proxy          `/chat-proxy/0.0.1`, both sides
membership     all of this, as long as the node runs
heartbeats     what we offer, told to them; what they offer, taken into the catalog
"""
