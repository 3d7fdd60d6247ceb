"""The protocol of the existing network (AIComputingNode v0.1.x), sans-io: `envelope` and `bodies` of messages on its topic,
`sealing` of bodies, `chat` and `image` between those and JSON. docs/wire.md says who sends what when."""
