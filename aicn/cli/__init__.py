"""The command line; heavy imports only inside the command that needs them."""
