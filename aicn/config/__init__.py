"""The node's configuration: one schema, read once."""
