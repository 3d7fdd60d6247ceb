"""The HTTP API; the only importer of quart and hypercorn."""
