"""The tests themselves: none of them reaches another machine."""

from __future__ import annotations

import socket

import pytest


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.com", 443), ("2001:db8::1", 80, 0, 0)])
def test_only_loopback_can_be_reached(address):
    """A connection to anything but loopback fails the test that tries it."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as connecting:
        for connect in (connecting.connect, connecting.connect_ex):
            with pytest.raises(AssertionError):
                connect(address)
