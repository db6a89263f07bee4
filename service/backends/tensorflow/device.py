"""TensorFlow in this process: how it is imported, its threads, its numerics, its devices.

The other modules here import this one before Keras or TensorFlow, since what is set below is read once, when they load. The
import takes seconds, and only the engine process and publishing need it: import it late.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no chatter on stderr, which belongs to the log
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever this machine's Keras is set to: executors are made of its graphs

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 nowhere for a while; Python's own exceptions are not affected."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:  # started without a stderr: nothing to silence
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with warnings.catch_warnings(), _silent_stderr():
    warnings.simplefilter("ignore")
    import keras
    import numpy as np
    import tensorflow as tf

__all__ = ["configure", "device_kind", "first_operation", "quiet", "software"]

_log = logging.getLogger(__name__)


def configure(intra_op: int, inter_op: int) -> None:
    """Set thread pools and numerics. Call once, before anything runs.

    Args:
        intra_op: threads one operation may use on the CPU.
        inter_op: operations that may run at once on the CPU.
    """
    # TF32 keeps ten bits of a product: answers would differ between GPUs, and from the golden samples, in the third digit.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        tf.config.threading.set_intra_op_parallelism_threads(intra_op)
        tf.config.threading.set_inter_op_parallelism_threads(inter_op)
        for device in tf.config.list_physical_devices("GPU"):
            # Else it takes all of the device's memory at once, and neither a second engine nor a trial would get any.
            tf.config.experimental.set_memory_growth(device, True)
    except RuntimeError:
        # Whoever embeds the engine used TensorFlow before: its pools stand as they are.
        _log.warning("TensorFlow was in use before the engine started: thread settings do not apply")
    tf.get_logger().setLevel(logging.ERROR)
    first_operation()


def first_operation() -> None:
    """Wake TensorFlow up; it announces the processor's features on stderr when it does."""
    with _silent_stderr():
        tf.constant(0)


def device_kind() -> str:
    """`gpu` where TensorFlow sees one, else `cpu`."""
    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def software() -> dict[str, str]:
    """Versions that matter to what a graph computes."""
    return {
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "numpy": np.__version__,
        "backend": keras.backend.backend(),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keras and TensorFlow warn about things a server's operator can do nothing about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
