"""Plain DSPy calls of this process, recorded."""
