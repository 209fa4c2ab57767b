"""Imported last in a pool's forkserver."""

from dspex_lab.pools._preload import freeze

freeze()
