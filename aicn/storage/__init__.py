"""The only importer of sqlite3."""
