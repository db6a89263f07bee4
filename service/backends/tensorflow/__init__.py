"""Keras and TensorFlow as a backend.

In: a version's files, read as data before anything is loaded (`keras_archive`, `saved_model`, `operations`). Out: a traced graph
(`graph`) with its detector compiled into it (`scores`, `input_watch`), and ways to run it (`executors`). Importing it takes seconds.
"""
