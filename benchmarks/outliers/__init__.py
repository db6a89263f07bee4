"""Outliers: does the promise hold (validity), and what does it catch (power)?"""

import os

# Matrices are small here: more threads only wait for each other. Before NumPy is imported, or it has no effect.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
