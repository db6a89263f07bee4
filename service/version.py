"""The version of this release and where it is imported from; here, so that who needs them need not import the face."""

from pathlib import Path
from typing import Final

__all__ = ["IMPORT_PATH", "__version__"]

__version__ = "0.1.0"

IMPORT_PATH: Final = Path(__file__).parents[1]
"""What child processes must have on their path to import the same code."""
