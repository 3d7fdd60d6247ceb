"""The libp2p host; the only importer of libp2p."""
