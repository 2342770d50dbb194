"""Ports of this machine."""

import socket


def free_port(host: str = "127.0.0.1") -> int:
    """A port of an address on which nothing listens."""
    with socket.socket() as free:
        free.bind((host, 0))
        port: int = free.getsockname()[1]
        return port
