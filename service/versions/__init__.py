"""A model version on disk: its manifest, its checksums, its golden samples, and the directory they live in.

In: a models directory, and what publishing wants written there. Out: what is in it, checked; `serving.toml`; and which version is
to be stable. Nothing here loads a model.
"""

from hoverboard.versions.golden import GoldenSample, GoldenSet
from hoverboard.versions.manifest import Manifest
from hoverboard.versions.scanner import ModelOnDisk, VersionOnDisk, scan
from hoverboard.versions.serving import Recording, Serving
from hoverboard.versions.store import VersionWriter, read_version, remove_leftovers, remove_unfinished, verify_checksums

__all__ = [
    "GoldenSample",
    "GoldenSet",
    "Manifest",
    "ModelOnDisk",
    "Recording",
    "Serving",
    "VersionOnDisk",
    "VersionWriter",
    "read_version",
    "remove_leftovers",
    "remove_unfinished",
    "scan",
    "verify_checksums",
]
