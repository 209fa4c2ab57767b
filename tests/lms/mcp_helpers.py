"""The MCP server of the tests, as a command."""

from __future__ import annotations

import sys
from pathlib import Path

SERVER = str(Path(__file__).with_name("mcp_server.py"))
COMMAND = [sys.executable, SERVER]
