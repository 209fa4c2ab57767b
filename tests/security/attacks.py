"""What hostile code tries, by what becomes of it. Names in capitals are given to it: see ``place`` in test_attacks.py."""

from __future__ import annotations

from dspex_lab.errors import (
    DspexError,
    SandboxDied,
    SandboxOutOfMemory,
    SandboxOutputLimit,
    SandboxTimeout,
    SandboxViolation,
)
from dspex_lab.security.sandbox import CodeError

#: The kernel does not carry the call out.
REFUSED = {
    "a fork bomb": "import os\nwhile True: os.fork()",
    "a program": "import subprocess\nsubprocess.run(['/bin/true'])",
    "an exec": "import os\nos.execv('/bin/true', ['true'])",
    "a kill of the kernel": "import os\nos.kill(KERNEL, 9)",
    "a kill of its parent": "import os\nos.kill(os.getppid(), 9)",
    "a kill of all": "import os\nos.kill(-1, 9)",
    "a signal by way of a pipe's owner": "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 10, 9)",  # F_SETSIG
    "an owner of a pipe": "import fcntl, os\nfcntl.fcntl(os.pipe()[0], 8, KERNEL)",
    "a signal by pidfd": "import os\nos.pidfd_open(KERNEL)",
    "a higher priority": "import os\nos.nice(-5)",
    "a real-time priority": "import os\nos.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))",
    "another user": "import os\nos.setuid(12345)",
    "one huge file": "open('/tmp/huge', 'w')",
    "a file in shared memory": "open('/dev/shm/x', 'w')",
    "a file without a name": "import os\nos.memfd_create('x')",
    "a folder": "import os\nos.mkdir('/tmp/sandbox')",
    "a change of the store": "open(STORE, 'r+b')",
    "a truncation of the store": "import os\nos.truncate(STORE, 0)",
    "an opening that truncates": "import os\nos.open(STORE, os.O_RDONLY | os.O_TRUNC)",
    "a removal": "import os\nos.unlink(STORE)",
    "a renaming": "import os\nos.rename(STORE, STORE + '1')",
    "a change of rights": "import os\nos.chmod(STORE, 0o777)",
    "a change of owner": "import os\nos.chown(STORE, 1, 1)",
    "a change of times": "import os\nos.utime(STORE)",
    "a link": "import os\nos.link(STORE, '/tmp/linked')",
    "a symbolic link": "import os\nos.symlink(STORE, '/tmp/linked')",
    "a handle without rights": "import os\nos.open('/', os.O_PATH)",
    "a change of root": "import os\nos.chroot('/tmp')",
    "TCP": "import socket\nsocket.create_connection(('127.0.0.1', PORT))",
    "a server": "import socket\nsocket.create_server(('127.0.0.1', 0))",
    "UDP": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "a unix socket": "import socket\nsocket.socket(socket.AF_UNIX).connect(UNIX)",
    "an abstract socket": "import socket\nsocket.socket(socket.AF_UNIX).bind(chr(0) + 'x')",
    "a pair of sockets, and an address": "import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', UNIX)",
    "a pair of sockets, connected elsewhere": "import socket\nsocket.socketpair(type=socket.SOCK_DGRAM)[0].connect(UNIX)",
    "a packet socket": "import socket\nsocket.socket(socket.AF_PACKET)",
    "netlink": "import socket\nsocket.socket(socket.AF_NETLINK)",
}

#: The file is none of those that it may read.
UNREADABLE = {
    "keys": "open(SSH).read()",
    "a listing of keys": "import os\nos.listdir(os.path.dirname(SSH))",
    "passwords": "open('/etc/shadow').read()",
    "the store": "open(STORE, 'rb').read()",
    "a symbolic link that is there": "open(LINK).read()",
    "a path that climbs": "import os\nopen(os.path.dirname(os.__file__) + '/../../../../../../../../../' + STORE).read()",
    "a path from a folder's handle": (
        "import os\nfolder = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
        "os.open('../../../../../../../../' + STORE, 0, dir_fd=folder)"
    ),
    "packages that are installed": "open(PACKAGE).read()",
    "the environment of the kernel": "open(f'/proc/{KERNEL}/environ').read()",
    "the memory of its parent": "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')",
    "its own environment": "open('/proc/self/environ').read()",
}

#: What it sends is no message of the sandbox.
FORGED = {
    "a forged message": "import os\nos.write(3, b'\\0\\0\\0\\2{}')",
    "a message that is no JSON": "import os\nos.write(3, b'\\0\\0\\0\\4junk')",
    "a message that is no object": "import os\nos.write(3, b'\\0\\0\\0\\2[]')",
    "a pickle as the answer": (
        "import os, pickle\nclass Bomb:\n    def __reduce__(self): return (os.system, ('touch ' + MARK,))\n"
        "data = pickle.dumps(Bomb())\nos.write(3, len(data).to_bytes(4, 'big') + data)"
    ),
    "a message in UTF-16": "import os\ndata = '{}'.encode('utf-16')\nos.write(3, len(data).to_bytes(4, 'big') + data)",
    "half a surrogate pair as it is": "import os\nos.write(3, b'\\0\\0\\0\\5\"\\xed\\xa0\\x80\"')",
    "a JSON encoder of its own": (
        "import json\njson.JSONEncoder.iterencode = json.JSONEncoder.encode = lambda *_, **__: 'junk'\n1"
    ),
    "a tool that is none": (
        "import gc\nask = next(o for o in gc.get_objects() if type(o).__name__ == 'Harness')._ask\nask('system', ('id',), {})"
    ),
}

#: It goes on until its time is over.
ENDLESS = {
    "a spin": "while True: pass",
    "a spin in C": "len(str(10**10**8))",
    "a spin in a regular expression": "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')",
    "a sleep": "import time\ntime.sleep(1e6)",
    "a spin that catches everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
}

#: It asks for more memory than there is.
GREEDY = {
    "a memory bomb": "held = []\nwhile True: held.append(bytearray(1 << 20))",
    "a memory bomb of small things": "held = []\nwhile True: held.append([None])",
    "one great allocation": "'x' * 10**12",
    "shared memory": "import mmap\nheld = []\nwhile True: held.append(mmap.mmap(-1, 1 << 24))",
}

#: It ends in a way of its own.
ODD: dict[str, tuple[str, type[DspexError], str]] = {
    "a fork bomb in C": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nassert all(libc.fork() == -1 for _ in range(9))\nraise KeyError('no forks')",
        CodeError,
        "no forks",
    ),
    "a thread bomb": (
        "import threading\nwhile True: threading.Thread(target=print).start()",
        SandboxViolation,
        "can't start new thread",
    ),
    "limits set anew": ("import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))", CodeError, "ValueError"),
    "a flood of output": ("while True: print('x' * 10000)", SandboxOutputLimit, "printed or sent more"),
    "a flood of errors": ("import os\nwhile True: os.write(2, b'x' * 10000)", SandboxOutputLimit, "printed or sent more"),
    "a giant result": ("'x' * (8 << 20)", SandboxOutputLimit, "result is too large"),
    "a giant exception": ("raise ValueError('x' * (8 << 20))", CodeError, "ValueError"),
    "a flood of small files": (
        "import tempfile\nwhile True: tempfile.NamedTemporaryFile(delete=False)",
        CodeError,
        "No usable temporary directory",
    ),
    "a mount": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.mount(b'a', b'/tmp', b'tmpfs', 0, None) == -1\n"
        "raise OSError(ctypes.get_errno(), 'mount')",
        SandboxViolation,
        "mount",
    ),
    "ptrace": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nassert libc.ptrace(16, KERNEL, 0, 0) == -1\n"
        "raise OSError(ctypes.get_errno(), 'ptrace')",
        SandboxViolation,
        "ptrace",
    ),
    "a name": ("import socket\nsocket.getaddrinfo('example.invalid', 80)", CodeError, "gaierror"),
    "an exit that looks like success": ("import os\nos._exit(0)", SandboxDied, r"exit code 0\) instead of giving a result"),
    "a SystemExit": ("raise SystemExit(0)", CodeError, "SystemExit"),
    "a KeyboardInterrupt": ("raise KeyboardInterrupt", CodeError, "KeyboardInterrupt"),
    "a segfault": ("import ctypes\nctypes.string_at(0)", SandboxDied, "SIGSEGV"),
    "an abort": ("import os\nos.abort()", SandboxDied, "crashed its process"),
    "a parser bomb": ("(" * 100000, CodeError, "SyntaxError"),
    "a deep recursion": ("def f(): f()\nf()", CodeError, "RecursionError"),
    "a crash by recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    __getattr__ = lambda s, n: getattr(s, n + 'x')\nA().a",
        DspexError,
        ".",
    ),
    "a closed channel": ("import os\nos.close(3)", SandboxDied, "instead of giving a result"),
    "a closed channel, and life after it": (
        "import os, time\nos.close(3)\nwhile True: time.sleep(60)",
        SandboxViolation,
        "closed the channel",
    ),
    "a message of four gigabytes": ("import os\nos.write(3, b'\\xff' * 100)", SandboxOutputLimit, "at once"),
    "half a message": (
        "import os, time\nos.write(3, b'\\0\\0\\0\\xff{')\nwhile True: time.sleep(60)",
        SandboxTimeout,
        "did not end",
    ),
    "a number of ten thousand digits": (
        "import os\ndata = b'1' * 10000\nos.write(3, len(data).to_bytes(4, 'big') + data)",
        SandboxViolation,
        "10,000 digits",
    ),
    "NaN": ("import os\nos.write(3, b'\\0\\0\\0\\3NaN')", SandboxViolation, "NaN is no JSON"),
    "an infinity": ("import os\nos.write(3, b'\\0\\0\\0\\0051e999')", SandboxViolation, "too large for a float"),
    "a deeply nested message": (
        "import os\ndata = b'[' * 100000\nos.write(3, len(data).to_bytes(4, 'big') + data)",
        SandboxOutputLimit,
        "nested more than",
    ),
    "a deeply nested result": (
        "value = []\nfor _ in range(200): value = [value]\nvalue",
        SandboxOutputLimit,
        "nested more than",
    ),
    "a bottomless result": ("value = []\nfor _ in range(100000): value = [value]\nvalue", CodeError, "RecursionError"),
    "builtins of its own": (
        "import builtins\nbuiltins.len = builtins.memoryview = builtins.dict = builtins.isinstance = lambda *_, **__: None\n1",
        DspexError,
        ".",
    ),
    "no harness at all": (
        "import sys\nframe = sys._getframe()\nwhile frame.f_back:\n    frame = frame.f_back\n    frame.f_locals\n"
        "import gc\nfor one in gc.get_objects():\n    if type(one).__name__ == 'Channel': one.__class__.send = None\n1",
        SandboxDied,
        "instead of giving a result",
    ),
    "a tool called a million times": ("for _ in range(10**6): tool()", SandboxViolation, "more than 50 times"),
    "a tool with a giant argument": ("tool('x' * (8 << 20))", SandboxOutputLimit, "arguments of tool are too large"),
}

#: What an attack may end with; anything else is a hole.
ATTACKS: dict[str, tuple[str, type[DspexError], str]] = {
    **{name: (code, SandboxViolation, "not permitted") for name, code in REFUSED.items()},
    **{name: (code, SandboxViolation, "Permission denied") for name, code in UNREADABLE.items()},
    **{name: (code, SandboxViolation, "own messages") for name, code in FORGED.items()},
    **{name: (code, SandboxTimeout, "did not end within") for name, code in ENDLESS.items()},
    **{name: (code, SandboxOutOfMemory, "MB of memory") for name, code in GREEDY.items()},
    **ODD,
}
