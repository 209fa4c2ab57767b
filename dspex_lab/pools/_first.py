"""Imported first of all in a pool's forkserver, before NumPy."""

from dspex_lab.pools._preload import limit_threads, sweep_when_orphaned

limit_threads()
sweep_when_orphaned()
