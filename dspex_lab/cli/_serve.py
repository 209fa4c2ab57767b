"""``dspex-lab serve``: pipelines as OpenAI models at an address of this machine."""

from __future__ import annotations

import argparse
import gc
import importlib
import signal
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from dspex_lab.cli._base import Command
from dspex_lab.errors import ConfigurationError, did_you_mean
from dspex_lab.pipelines import Pipeline, load_pipeline

if TYPE_CHECKING:
    from dspex_lab.web import Served


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = "The key that clients show is DSPEX_SERVE_TOKEN of the environment; without it one is made and printed."
    parser.add_argument(
        "pipelines",
        nargs="+",
        metavar="FILE|MODULE:NAME",
        help="a pipeline file (.yaml), or one in a module: package.module:name",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default %(default)s, this machine only")
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one; default %(default)s")
    parser.add_argument(
        "--hosts", nargs="*", default=[], metavar="NAME:PORT", help="further names by which clients may call it"
    )
    parser.add_argument("--store", type=Path, metavar="FILE", help="where runs are kept; default .dspex/serve.duckdb")
    parser.add_argument("--lm", default=None, metavar="MODEL", help='a model such as openai/gpt-5-mini; default "offline"')
    parser.add_argument(
        "--fallback-lm", action="append", default=[], metavar="MODEL", help="asked where that fails; repeatable"
    )
    parser.add_argument("--modules", nargs="*", default=[], metavar="MODULE", help="modules whose functions the files may name")
    parser.add_argument("--concurrency", type=int, default=64, help="requests answered at once; default %(default)s")
    parser.add_argument("--rate", default="6000/minute", help='requests of a client, or "none"; default %(default)s')
    parser.add_argument("--no-chat", action="store_true", help="no chat page")


def run(options: argparse.Namespace) -> int:
    """Serve until the process is told to end."""
    from dspex_lab.web import serve
    from dspex_lab.workbench import Lab

    sys.path.insert(0, "")  # modules of the folder it is started in
    modules = [_module(name) for name in options.modules]
    found = _all(options.pipelines, modules)
    told = _told()
    store = options.store or Path(".dspex") / "serve.duckdb"
    with Lab(store) as lab:
        if options.lm is not None:
            lab.use(options.lm)
        lab.pipelines.update(found)
        lab.jobs  # noqa: B018 - those that an earlier process left are interrupted now, and known
        rate = None if options.rate == "none" else options.rate
        with serve(
            lab,
            list(found),
            host=options.host,
            port=options.port,
            hosts=options.hosts,
            models=options.fallback_lm,
            rate=rate,
            concurrency=options.concurrency,
            chat=not options.no_chat,
        ) as served:
            # What is loaded stays: walking through it all again and again took a quarter of the time under load, and was the
            # longest time that a request waited.
            gc.collect()
            gc.freeze()
            try:
                _say(served, f"serving {', '.join(found)} with {lab.lm.model}")
                while not told.wait(1.0):  # a wait without end would not let a signal in on every system
                    pass
                print("stopping; requests under way get a few seconds", flush=True)
            finally:
                gc.unfreeze()  # at its end a process lets everything go
    return 0


def _say(served: Served, what: str) -> None:
    print(what, flush=True)
    where = {"OpenAI base": f"{served.url}/v1", "key": served.token, "API": f"{served.url}/docs", "chat": served.chat}
    for name, value in where.items():
        if value is not None:
            print(f"  {name + ':':<13}{value}", flush=True)


def _told() -> threading.Event:
    """Return what is set when the process is told to end, from now on."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    return told


def _all(texts: list[str], modules: list[ModuleType]) -> dict[str, Pipeline]:
    """Return the pipelines that the arguments name, by their own names.

    Raises:
        ConfigurationError: an argument names none, or two are called the same.
    """
    found: dict[str, Pipeline] = {}
    for text in texts:
        name, pipeline = _found(text, modules)
        if name in found:
            raise ConfigurationError(
                f"Two pipelines are called {name!r}; the second is {text!r}.",
                key="pipelines",
                expected="a name for each",
                actual=text,
                hint="A model is asked for by the pipeline's name: give one of them another.",
            )
        found[name] = pipeline
    return found


def _found(text: str, modules: list[ModuleType]) -> tuple[str, Pipeline]:
    """Return the pipeline that an argument names.

    Raises:
        ConfigurationError: it names none.
    """
    if text.endswith((".yaml", ".yml")):
        if not Path(text).is_file():
            raise ConfigurationError(f"There is no file {text!r}.", key="pipelines", expected="a pipeline file", actual=text)
        pipeline = load_pipeline(Path(text), modules=modules or None)
        return pipeline.name, pipeline
    module_name, colon, name = text.partition(":")
    if not colon or not module_name or not name:
        raise ConfigurationError(
            f"{text!r} is neither a pipeline file nor one in a module.",
            key="pipelines",
            expected="pipeline.yaml or package.module:name",
            actual=text,
        )
    module = _module(module_name)
    value: Any = getattr(module, name, None)
    if value is None:
        near = did_you_mean(name, vars(module))
        raise ConfigurationError(f"The module {module_name!r} has no {name!r}.{near}", key="pipelines", actual=text)
    if isinstance(value, Pipeline):
        return value.name, value
    return name, Pipeline(name, **{name: value})


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"The module {name!r} cannot be imported: {error}.", key="modules", actual=name) from error


COMMAND = Command("serve", "serve pipelines as OpenAI models, with a chat page", arguments, run)
