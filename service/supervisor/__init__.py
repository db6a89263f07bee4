"""The supervisor: claims the data directory and the ports, and starts, watches and drains the other processes."""

from service.supervisor.core import Supervisor

__all__ = ["Supervisor"]
