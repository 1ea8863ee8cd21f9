"""Two-party inference: a client with a picture and a server with a network, as two processes over mutual TLS.

`session` says what all methods have in common; `plain_upload`, `morphed_upload`, `gazelle` and `minionn` are the
methods, written against `link`; `client` and `server` are the processes. `comparison` runs and compares
them.
"""
