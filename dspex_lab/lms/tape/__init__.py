"""Recordings of what models answer, and playing them back."""
