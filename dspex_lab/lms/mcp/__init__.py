"""Tools of MCP servers, for DSPy programs."""
