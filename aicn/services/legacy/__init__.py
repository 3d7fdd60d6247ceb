"""This node as a member of the existing network (docs/wire.md, "Legacy").

conversation   messages on the topic: questions, their answers, heartbeats; what may pass
answering      the questions of others, from the topic
asking         our questions to nodes that speak nothing newer
proxy          `/chat-proxy/0.0.1`, both sides
heartbeats     what we offer, told to them; what they offer, taken into the catalog
"""
