"""The supervisor: claims the data directory and the ports, and starts, watches and drains the other processes."""

from hoverboard.supervisor.core import Supervisor

__all__ = ["Supervisor"]
