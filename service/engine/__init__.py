"""The engine: versions in memory, batching, execution. Import the parts; only `runtime` needs TensorFlow."""
