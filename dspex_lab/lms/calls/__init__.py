"""A call of a model, from DSPy's LM to its engine: recorded, guarded, streamed, answered by another where it fails."""
