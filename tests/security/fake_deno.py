"""Stands in for Deno with DSPy's runner: speaks its protocol, and runs the code in plain Python. For tests alone."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from typing import Any

NAMES: dict[str, Any] = {}


class Final(BaseException):
    """SUBMIT was called."""


def send(message: dict[str, Any]) -> None:
    """Write a message to the host."""
    print(json.dumps({"jsonrpc": "2.0", **message}), file=sys.__stdout__, flush=True)


def ask(name: str, kwargs: dict[str, Any]) -> Any:
    """Call a tool of the host."""
    send({"method": "tool_call", "params": {"name": name, "kwargs": kwargs}, "id": "tool"})
    answer = json.loads(sys.stdin.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
    result = answer["result"]
    return json.loads(result["value"]) if result["type"] == "json" else result["value"]


def register(params: dict[str, Any]) -> None:
    """Make tools and SUBMIT known."""
    for tool in params.get("tools", []):
        NAMES[tool["name"]] = lambda _name=tool["name"], **kwargs: ask(_name, kwargs)
    if "outputs" in params:
        NAMES["SUBMIT"] = submit


def submit(output: Any = None, **fields: Any) -> None:
    """End the execution."""
    raise Final(fields or {"output": output})


def execute(code: str) -> dict[str, Any]:
    """Run code as Pyodide does."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "code", "exec"), NAMES)  # noqa: S102
        value = None if last is None else eval(compile(ast.Expression(last.value), "code", "eval"), NAMES)  # noqa: S307
    return {"output": printed.getvalue() if value is None else value}


def main() -> None:
    """Answer the host."""
    if "--version" in sys.argv:
        print("deno 2.5.0")
        return
    if "info" in sys.argv:
        print(json.dumps({"denoDir": "/nowhere"}))
        return
    NAMES["SUBMIT"] = submit
    for line in sys.stdin:
        message = json.loads(line)
        method, params, number = message["method"], message.get("params", {}), message.get("id")
        if method == "shutdown":
            return
        try:
            result = register(params) or {} if method == "register" else execute(params["code"])
            send({"result": result, "id": number})
        except Final as final:
            send({"result": {"final": final.args[0]}, "id": number})
        except SyntaxError as error:
            send({"error": {"code": -32000, "message": str(error), "data": {"type": "SyntaxError"}}, "id": number})
        except Exception as error:
            about = {"type": type(error).__name__, "args": [str(error)]}
            send({"error": {"code": -32099, "message": str(error), "data": about}, "id": number})


if __name__ == "__main__":
    main()
