"""Imported first of all in a pool's forkserver, before NumPy."""

from dspex_lab.pools._preload import leave_the_terminal, limit_threads, sweep_when_orphaned

leave_the_terminal()
limit_threads()
sweep_when_orphaned()
