"""What each engine makes of each fault of a provider: what the user gets, how many requests the server saw, how many it bills.

python tests/bench/faults.py [ENGINE ...]        # lm15 litellm http instructor; all by default
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # no look at the net for prices

import dspy

from dspex_lab.testing import Fault, FaultyServer
from dspex_lab.testing._any_lm import ask, close, stream, text_of

KEY = "sk-zQ8vKx2LrT5nWb7YhC3mJd9PfGs4Ea"
TEXT = "one two three four"
TIMEOUT = 2.0
FAULTS = {
    "none": None,
    "429, Retry-After: 7": Fault.rate_limit(7),
    "429, Retry-After: a date in 1 h": Fault.rate_limit(3600, as_date=True),
    "429 without": Fault.rate_limit(),
    "429 insufficient_quota": Fault.quota(),
    "402": Fault.payment_required(),
    "500": Fault.server_error(),
    "502 with HTML": Fault.bad_gateway(),
    "503, Retry-After: 2": Fault.unavailable(2),
    "504": Fault.gateway_timeout(),
    "529": Fault.overloaded(),
    "401 wrong key": Fault.wrong_key(),
    "401 that repeats the key": Fault.wrong_key(echo=True),
    "403": Fault.forbidden(),
    "404 unknown model": Fault.unknown_model(),
    "400 context length": Fault.context_length(),
    "400 content policy": Fault.content_policy(),
    "hangs": Fault.hang(),
    "hangs after 2 pieces": Fault.hang(2),
    "reset": Fault.reset(),
    "cut after 2 pieces": Fault.cut(2),
    "cut after 2, HTTP ends well": Fault.cut(2, clean=True),
    "closes the kept connection": Fault.stale(),
    "byte by byte": Fault.drip(),
    "garbage": Fault.garbage(),
    "no body": Fault.empty("body"),
    "empty choices": Fault.empty("choices"),
    "no choices": Fault.empty("no_choices"),
    "empty text": Fault.empty("content"),
    "null": Fault.empty("null"),
    "usage missing": Fault.usage("missing"),
    "usage negative": Fault.usage("negative"),
    "usage nonsense": Fault.usage("nonsense"),
    "bad line in the stream": Fault.bad_sse(2),
    "error in the stream": Fault.error_event(2),
    "refusal": Fault.refusal(),
    "content filter": Fault.content_filter(),
    "redirect": Fault.redirect(),
    "24 MiB": Fault.huge(24 << 20),
}


def own(engine: str) -> Callable[[str], Any]:
    def make(url: str) -> Any:
        return dspy.LM("openai/any-model", engine=engine, api_base=url, api_key=KEY, timeout=TIMEOUT, **COMMON)

    return make


def http(url: str) -> Any:
    from dspex_lab.lms.engines import http_lm

    return http_lm("any-model", api_base=url, api_key=KEY, read_timeout=TIMEOUT, **COMMON)


def instructor(url: str) -> Any:
    from dspex_lab.lms.engines import instructor_lm

    return instructor_lm("any-model", api_base=url, api_key=KEY, read_timeout=TIMEOUT, **COMMON)


COMMON = {"cache": False, "num_retries": 0}
ENGINES: dict[str, Callable[[str], Any]] = {
    "lm15": own("lm15"),
    "litellm": own("litellm"),
    "http": http,
    "instructor": instructor,
}


def told(error: BaseException, pieces: str | None = None) -> str:
    """Say in a few words what an error says."""
    said = [type(error).__name__]
    for name, shown in (("status", "{}"), ("retry_after", "retry {:.0f} s")):
        value = getattr(error, name, None)
        if value is not None:
            said.append(shown.format(value))
    partial = getattr(getattr(error, "partial", None), "text", None)
    if partial:
        said.append(f"keeps {shown_text(partial)}")
    elif pieces:
        said.append("loses what came")
    if KEY in str(error):
        said.append("SHOWS THE KEY")
    return " ".join(said)


def shown_text(text: str) -> str:
    """Return a text as it fits into a table."""
    return repr(text) if len(text) <= 30 else f"{len(text):,} characters"


def given(response: Any) -> str:
    """Say in a few words what an answer is."""
    text = response.text or ""
    refusal = [part.text for part in response.message.parts if part.type == "refusal"]
    said = ["answer" if text == TEXT else shown_text(text)]
    if refusal:
        said = ["refusal kept"]
    if response.finish_reason not in ("stop", None):
        said.append(response.finish_reason)
    usage = response.usage
    if usage.input_tokens is None or usage.output_tokens is None:
        said.append("tokens unknown")
    elif usage.output_tokens < 0 or (text and usage.output_tokens == 0):
        said.append(f"tokens {usage.input_tokens}+{usage.output_tokens}")
    return " ".join(said)


def plain(lm: Any) -> str:
    """Return what the user gets of a call."""
    try:
        return given(lm(request=ask(lm)))
    except Exception as error:
        return told(error)


def streamed(lm: Any) -> str:
    """Return what the user gets of a stream."""
    events: list[Any] = []
    try:
        for event in stream(lm, ask(lm)):
            events.append(event)
    except Exception as error:
        return told(error, text_of(events))
    text, reason = text_of(events), getattr(events[-1], "finish_reason", None)
    if reason not in ("stop", None):
        return f"{shown_text(text)} {reason}"
    return "answer" if text == TEXT else f"taken for whole: {shown_text(text)}"


def schema(lm: Any) -> str:
    """Return what the user of a DSPy program gets."""
    try:
        with dspy.context(lm=lm):
            return f"answer {dspy.Predict('question -> label, score: float')(question='?').label!r}"
    except Exception as error:
        return told(error)


def cell(make: Callable[[str], Any], fault: Fault | None, call: Callable[[Any], str]) -> str:
    """Return one cell of the table."""
    with FaultyServer(TEXT, faults=fault) as server:
        lm = make(server.url)
        said = call(lm)
        close(lm)
        counts = server.counts
    return f"{said} · {counts.arrived}/{counts.paid}"


def table(title: str, rows: dict[str, Fault | None], names: list[str], call: Callable[[Any], str]) -> None:
    print(f"\n{title} (requests/billed)\n\n| fault | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, fault in rows.items():
        cells = [cell(ENGINES[engine], fault, call) for engine in names]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def rate(requests: int = 4000, connections: int = 4) -> None:
    """Print how many requests a second the server answers, with clients in the same process."""
    import http.client
    import json

    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]})

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        for _ in range(requests // connections):
            connection.request("POST", "/v1/chat/completions", body)
            connection.getresponse().read()
        connection.close()

    with FaultyServer(TEXT) as server, ThreadPoolExecutor(connections) as pool:
        began = time.perf_counter()
        list(pool.map(client, range(connections)))
        print(f"FaultyServer: {requests / (time.perf_counter() - began):,.0f} requests/s beside its {connections} clients")


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    rate()
    with contextlib.redirect_stderr(sys.stdout):
        table("A call", FAULTS, names, plain)
        # A refusal is the same for a stream as for a call.
        table("A stream", {n: f for n, f in FAULTS.items() if f is None or f.kind != "status"}, names, streamed)
        table("`dspy.Predict`, ChatAdapter", {"the model ignores the form": Fault.schema_ignored()}, names, schema)


if __name__ == "__main__":
    main(sys.argv[1:] or list(ENGINES))
