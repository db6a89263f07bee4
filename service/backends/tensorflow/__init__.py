"""Keras and TensorFlow: reading an artifact, tracing, compiling detectors into the graph, running it."""
