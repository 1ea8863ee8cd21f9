"""What crosses the wire, as pure functions: codecs, batches, layer files. No socket, no thread.

Each is imported by its module: those that make tensors take a second to load.
"""
