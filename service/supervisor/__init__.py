"""The supervisor: claims the data directory and the ports, and starts, watches and drains the other processes.

In: settings and signals. Out: processes that run, a banner once they answer, an exit status.
"""

from hoverboard.supervisor.core import Supervisor

__all__ = ["Supervisor"]
