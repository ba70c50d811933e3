"""What the processes of a server agree on: the signals that stop them, their address, and where they share metrics.

It is read before everything else, so it imports little.
"""

from __future__ import annotations

import signal
import socket
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

DRAIN_SECONDS: Final = 30
"""How long the requests that have begun may take to finish after the signal to stop."""

MULTIPROCESS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells several processes, and the library in each, the directory of their metrics."""


def address_of(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Give the family and the address of a host to listen on; Granian takes no names.

    Raises:
        OSError: if the name has no address.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, str(address[0])
