"""The command line. One command per file; `main` imports only the one that is called."""
