"""Tells the service manager that the process is ready, lives and ends, as systemd's sd_notify(3) describes."""

from __future__ import annotations

import socket
from typing import Final

from tbot_core.system import environ

READY: Final = "READY=1"
ALIVE: Final = "WATCHDOG=1"
STOPPING: Final = "STOPPING=1"


def notify(state: str) -> bool:
    """Send a state to the socket that NOTIFY_SOCKET names; returns whether it was sent.

    Without the variable, and where the manager does not listen, nothing happens. It never blocks.
    """
    address = environ.service_socket()
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
    except OSError:
        return False
    return True
