"""The engine: versions in memory, batching, execution. Import the parts; nothing here needs TensorFlow, its backend does."""
