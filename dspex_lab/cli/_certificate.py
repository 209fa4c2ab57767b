"""``dspex-lab certificate``: what a cluster of one's own needs so that only its owner's kernels are let in."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from dspex_lab.cli._base import Command
from dspex_lab.pools import make_certificates


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("folder", type=Path, help="where ca.pem, cert.pem and key.pem go; nothing there is overwritten")
    parser.add_argument("--days", type=int, default=365, help="how long they hold; default %(default)s")


def run(options: argparse.Namespace) -> int:
    """Write the files and say how they are used."""
    made = make_certificates(options.folder, days=options.days)
    ca, cert, key = (shlex.quote(str(file)) for file in (made.ca, made.cert, made.key))
    flags = f"--tls-ca-file {ca} --tls-cert {cert} --tls-key {key}"
    print(f"Written: {made.ca}, {made.cert}, {made.key}. Whoever has key.pem can run code on the cluster.")
    print("Start a cluster with them, and name it in dspex.toml or pyproject.toml:\n")
    print(f"dask scheduler --protocol tls --port 8786 --no-dashboard {flags}")
    print(f'dask worker tls://HOST:8786 --nthreads 1 --memory-limit 512MB --resources "general=1" {flags}\n')
    print('[pools]\naddress = "tls://HOST:8786"')
    for name, file in (("tls_ca", made.ca), ("tls_cert", made.cert), ("tls_key", made.key)):
        print(f"{name} = {json.dumps(str(file))}")  # what JSON writes of a text, TOML reads
    return 0


COMMAND = Command("certificate", "make the TLS certificates of a Dask cluster that pools can join", arguments, run)
