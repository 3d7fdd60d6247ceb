"""Tools for who builds or tries a model endpoint: one to play with, and a check of one's own. No part of a running node."""
