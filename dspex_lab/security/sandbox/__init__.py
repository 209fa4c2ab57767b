"""Runs Python that a model wrote, in a process that can compute and nothing else.

::

    with Sandbox(tools={"search": search}) as sandbox:
        sandbox.run("found = search('x')")
        sandbox.run("len(found) + extra", {"extra": 1}).result

``Sandbox.run(code, variables={}, *, timeout=None, tools=None) -> Ran``. Names persist between runs of one sandbox. Raises

    CodeError            the code's own exception (not a SandboxError): type, detail, line, column, traceback, stdout, stderr.
                         The sandbox lives. A SyntaxError and a SystemExit are such as well.
    SandboxViolation     the code let a PermissionError of the sandbox escape, called tools too often or broke the protocol
    SandboxOutOfMemory   MemoryError
    SandboxOutputLimit   printed more than Limits.flood, or a result or argument larger than Limits.received
    SandboxTimeout       wall or processor time; the process was ended
    SandboxDied          os._exit, a segfault; the process is gone
    SandboxUnavailable   this kernel gives too little; nothing was run. ``message`` names what is missing
    ConfigurationError   what was given cannot be given: a name that is no identifier, a value that is not JSON

Each of the errors of a run has ``stdout`` and ``stderr``: what was printed until then. ``sandbox.alive`` says whether the names
of earlier runs are still there; the next run starts a new process by itself and its ``Ran.fresh`` is True. Tools are called in
the thread that called ``run``, in the caller's context, with JSON values; what they give must be JSON (:func:`json.dumps` takes
it). A tool that raises ``Submit(value)`` ends the run with that value (``Ran.submitted``); any other exception reaches the code
as a ``ToolError(RuntimeError)`` that says its type and text. A BaseException (KeyboardInterrupt) ends the process and goes on.

What code has: the standard library; ``importable=[folder]`` adds folders of packages (``site-packages``, then NumPy and pandas
work), ``readable=[folder]`` folders of data. It cannot write to any file at all, start a thread or a program, reach a network,
another process, the environment or a file elsewhere: each such attempt is a PermissionError in the code (a thread:
RuntimeError). ``asyncio.run`` and a top-level ``await`` work.

How it is held: ``_sandbox.py`` (what users see) → ``_conversation.py`` (one run: limits, messages) → ``_process.py`` (the
process) → ``_warm.py`` (the warm Python it is forked from). On the other side ``_zygote.py`` is that Python, ``_child.py`` what
a fork of it gives up before any code comes, ``_inside.py`` what then runs the code.
"""

from __future__ import annotations

from dspex_lab.security.sandbox._sandbox import Sandbox
from dspex_lab.security.sandbox._types import JSON, CodeError, Limits, Ran, Submit
from dspex_lab.security.sandbox._warm import warm

__all__ = ["JSON", "CodeError", "Limits", "Ran", "Sandbox", "Submit", "warm"]
