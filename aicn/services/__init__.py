"""What the node does; knows no HTTP, no libp2p, no SQL."""
