"""``%dspex lm``, ``%dspex key`` and ``%dspex prompt``."""

from __future__ import annotations

import getpass
import os
import queue
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from IPython.core.completer import provisionalcompleter
from jupyter_client.manager import KernelManager
from model_helpers import KEY, keyring_in_memory, models_put_back, typed

import dspex_lab as dx
from dspex_lab.magics._needs import needs_of
from dspex_lab.testing import scripted_lm


@pytest.fixture
def models(shell: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell whose environment, prices and cache are put back."""
    with models_put_back():
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield shell


def run_cell(shell: Any, cell: str) -> Any:
    done = shell.run_cell(cell, store_history=True)
    done.raise_error()
    return done.result


def error_of(shell: Any, cell: str) -> list[str]:
    done = shell.run_cell(cell)
    assert isinstance(done.error_in_exec, dx.DspexError), done.error_in_exec
    return done.error_in_exec._render_traceback_()


def caret_under(lines: list[str]) -> str:
    """Return what stands where the caret points."""
    place = next(i for i, line in enumerate(lines) if line.strip() == "^")
    return lines[place - 1][lines[place].index("^") :]


# --- %dspex lm ---------------------------------------------------------------------------------------------------


def test_lm_alone_says_all_about_the_model_in_use(
    models: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    dx.lab().lms.add("openai/gpt-5-mini")
    dx.lab().lms.add("anthropic/claude-sonnet-4-5")
    run_cell(models, "%dspex lm")
    told = capsys.readouterr().out
    assert "the offline engine" in told
    assert "takes 1,000,000 tokens · free · runs here" in told
    assert "measured: never called here" in told
    assert "also here: openai/gpt-5-mini, anthropic/claude-sonnet-4-5 (ANTHROPIC_API_KEY is not set" in told
    assert "openai (OPENAI_API_KEY, from the environment)" in told
    assert "cache is" in told
    assert KEY not in told
    run_cell(models, "%dspex lm openai/gpt-5-mini")
    assert "0.25 in, 2 out" in capsys.readouterr().out


def test_a_name_of_the_lab_chooses_its_model(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mine = scripted_lm(["x"])
    dx.lab().lms.add(mine, name="mine")
    run_cell(models, "%dspex lm mine")
    assert dx.lab().lm is mine
    assert "simulated" in capsys.readouterr().out
    run_cell(models, "%dspex lm offline")
    run_cell(models, "%dspex lm")
    assert "also here: mine" in capsys.readouterr().out


def test_select_shows_the_choice_and_uses_it_where_asked(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    mine = scripted_lm(["x"])
    lms = dx.lab().lms
    lms.add(mine, name="mine", quality=0.9)
    lms.set_model(mine.model, tools=True, vision=True, context="64k")
    found = run_cell(models, "%dspex lm select tools vision context=32k price=1 prefer=quality")
    assert found.order == ("mine",)
    assert dx.lab().lm is not mine
    assert "cannot take images" in found.reasons["offline/exemplar"]
    run_cell(models, "%dspex lm select local exclude=offline,openai --use")
    assert dx.lab().lm is mine
    assert mine.model in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "message", "under"),
    [
        ("%dspex lm select tool", "Did you mean 'tools'", "tool"),
        ("%dspex lm select structured contxt=32k", "Did you mean 'context'", "contxt"),
        ("%dspex lm select context=32q", "invalid decimal literal", "32q"),
        ("%dspex lm select context=nope", "nope", "nope"),
        ("%dspex lm select context", "Write context=…", "context"),
        ("%dspex lm select prefer=costs", "Did you mean 'cost'", "prefer"),
        ("%dspex lm select price=1 price=2", "given twice", "price=2"),
        ('%dspex lm select exclude="openai', "ends inside a string", '"openai'),
        ("%dspex lm select (tools", "ends inside a string", "(tools"),
        ("%dspex lm select tools --us", "Did you mean '--use'", "--us"),
        ("%dspex lm select providers=opnai", "names no model here and no provider", "providers"),
        ("%dspex lm select vision", "cannot take images", None),
        ("%dspex lm price openai/gpt-5-mini 1", "A price is two sums", "openai"),
        ("%dspex lm price", "A price is two sums", None),
        ("%dspex lm price openai/gpt-5-mini 1 dear", "'dear' is no sum", "dear"),
        ("%dspex lm price openai/gpt-5-mini 1 -2", "output=-2", None),
        ("%dspex lm cache of", "Did you mean 'off'", "of"),
        ("%dspex lm selct tools", "tools", None),
        ("%dspex lm selct", "Did you mean 'select'", "selct"),
        ("%dspex lm add", "Which model", None),
        ("%dspex lm add opnai/gpt-5", "Did you mean 'openai'", "opnai"),
        ("%dspex lm remove", "Which model", None),
        ("%dspex lm remove x/y", "No model 'x/y' was added", "x/y"),
        ("%dspex prompt x y", "not expected", "y"),
        ("%dspex prompt nothing", "No call 'nothing' was recorded", "nothing"),
        ("%dspex prompt", "No call of a model was recorded yet", None),
    ],
)
def test_a_slip_of_the_hand_is_told_with_its_place(models: Any, cell: str, message: str, under: str | None) -> None:
    lines = error_of(models, cell)
    assert message in "\n".join(lines)
    if under is not None:
        assert caret_under(lines).startswith(under)


def test_needs_are_read_with_values_of_the_notebook() -> None:
    space = {"limit": 3, "both": (1, 2)}
    assert needs_of("tools price=limit", space) == ({"tools": True, "price": 3}, False)
    assert needs_of("price=both context=32k --use", space) == ({"price": (1, 2), "context": "32k"}, True)
    assert needs_of("price=(1, 2) quality=.5 prefer='cost'", {}) == ({"price": (1, 2), "quality": 0.5, "prefer": "cost"}, False)
    assert needs_of("exclude=openai/gpt-5,groq prefer={'cost': 1, 'quality': 2}", {}) == (
        {"exclude": ("openai/gpt-5", "groq"), "prefer": {"cost": 1, "quality": 2}},
        False,
    )
    assert needs_of("tools=False structured=limit==3 context=32_000", space)[0] == {
        "tools": False,
        "structured": True,
        "context": 32000,
    }
    assert needs_of("", {}) == ({}, False)


def test_prices_are_set_and_shown(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(models, "%dspex lm price mine/own $0.5 2")
    assert "0.5 in, 2 out" in capsys.readouterr().out
    run_cell(models, "%dspex lm price openai/gpt-5-mini")
    assert "0.25 in, 2 out" in capsys.readouterr().out


def test_models_are_added_and_removed(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run_cell(models, "%dspex lm add openai/gpt-5-mini quality=0.8 name='main'")
    assert "main: takes" in capsys.readouterr().out
    assert next(c for c in dx.lab().lms if c.name == "main").quality == 0.8
    models.user_ns["mine"] = scripted_lm(["x"])
    run_cell(models, "%dspex lm add mine")
    assert models.user_ns["mine"].model in dx.lab().lms
    run_cell(models, "%dspex lm remove main")
    assert "main" not in dx.lab().lms


def test_the_cache_is_switched_and_emptied(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    scripted_lm(["one"], cache=True)("hello")
    run_cell(models, "%dspex lm cache")
    assert "is on: 1 answer in memory" in capsys.readouterr().out
    run_cell(models, "%dspex lm cache off")
    run_cell(models, "%dspex lm cache clear")
    assert capsys.readouterr().out.count("is off") == 2
    run_cell(models, "%dspex lm cache on")
    run_cell(models, "%dspex lm cache clear")
    assert "cleared: 1 in memory, 0 on the disk" in capsys.readouterr().out


# --- %dspex prompt -----------------------------------------------------------------------------------------------


def test_the_last_prompt_and_that_of_any_call_are_shown(models: Any) -> None:
    lab = dx.lab()
    lab.use(scripted_lm([{"answer": "4"}, {"answer": "6"}]))
    lab.predict("question -> answer", question="2 + 2?").raise_for_status()
    first = run_cell(models, "%dspex prompt")
    assert "2 + 2?" in str(first)
    lab.predict("question -> answer", question="3 + 3?").raise_for_status()
    assert "3 + 3?" in str(run_cell(models, "%dspex prompt last"))
    assert run_cell(models, f"%dspex prompt {first.call_id}") == first


# --- %dspex key --------------------------------------------------------------------------------------------------


@pytest.fixture
def store(models: Any) -> Iterator[dict[tuple[str, str], str]]:
    with keyring_in_memory() as made:
        yield made.kept


def test_a_key_is_asked_for_and_leaves_no_trace(
    models: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = typed(monkeypatch, KEY)
    assert run_cell(models, "%dspex key openai") is None
    assert os.environ["OPENAI_API_KEY"] == KEY
    assert len(prompts) == 1
    listed = run_cell(models, "%dspex key")
    assert [str(state) for state in listed] == ["openai: OPENAI_API_KEY, entered here"]
    lab = dx.lab()
    lab.use(scripted_lm([{"answer": f"your key is {KEY}"}]))
    lab.predict("question -> answer", question=f"My key: {KEY}").raise_for_status()
    kept = [lab.sql(f"SELECT * FROM {t}").to_csv() for t in ("runs", "spans", "lm_calls", "events")]  # noqa: S608
    history = list(models.history_manager.get_range(output=True))
    namespace = {k: repr(v) for k, v in models.user_ns.items() if k in ("In", "Out", "_", "__", "_i", "_ih", "_oh")}
    shown = "".join(capsys.readouterr())
    for text in (shown, str(kept), str(history), str(namespace), repr(lab.lms), listed._repr_html_()):
        assert KEY[3:] not in text
    assert "openai: OPENAI_API_KEY, entered here: it is in the environment of this process, nowhere else." in shown


def test_a_key_comes_from_a_file(models: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my keys.env").write_text(f"OPENAI_API_KEY={KEY}\nGROQ_API_KEY=gsk_0123456789abcdef\nANTHROPIC_API_KEY=your-key\n")
    run_cell(models, '%dspex key openai --from-env-file "my keys.env"')
    assert os.environ["OPENAI_API_KEY"] == KEY
    assert "GROQ_API_KEY" not in os.environ
    found = run_cell(models, '%dspex key --from-env-file="my keys.env"')
    assert {state.provider for state in found} == {"openai", "groq"}
    told = capsys.readouterr().out
    assert "left out: This is no key for ANTHROPIC_API_KEY" in told
    assert KEY not in told


def test_the_keyring_keeps_a_key_and_gives_it_back_unasked(
    models: Any, store: dict[Any, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = typed(monkeypatch, KEY)
    run_cell(models, "%dspex key openai --keyring")
    assert list(store.values()) == [KEY]
    run_cell(models, "%dspex key openai --forget")
    assert "OPENAI_API_KEY" not in os.environ
    run_cell(models, "%dspex key openai --keyring")
    assert os.environ["OPENAI_API_KEY"] == KEY
    assert len(prompts) == 1, "the second time nobody was asked"
    run_cell(models, "%dspex key openai --forget --keyring")
    assert store == {}
    run_cell(models, "%dspex key openai --forget")
    told = capsys.readouterr().out
    assert "in the environment of this process and in the keyring" in told
    assert "there was no key" in told
    assert KEY not in told
    Path(".env").write_text(f"OPENAI_API_KEY={KEY}\n")
    run_cell(models, "%dspex key openai --from-env-file .env --keyring")
    assert list(store.values()) == [KEY]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"openai {KEY}", "A key is not written into a cell"),
        (KEY, "Was it a key"),
        (f"openai --key={KEY}", "There is no such flag here"),
        (f"openai --{KEY}", "There is no such flag here"),
        (f"openai '{KEY}", "ends inside a string"),
        ("openai --from-env-file", "needs a file"),
        ("openai --from-env-file --keyring", "needs a file"),
        ("--forget", "Whose key"),
        ("--keyring", "Whose key"),
        ("opnai", "Did you mean 'openai'"),
        ("ollama", "needs no key"),
    ],
)
def test_what_is_written_wrong_is_told_and_not_repeated(models: Any, line: str, message: str) -> None:
    lines = error_of(models, f"%dspex key {line}")
    assert message in "\n".join(lines)
    assert KEY[3:].lower() not in "\n".join(lines).lower()
    assert not any("Traceback" in each for each in lines)


def test_a_prompt_that_is_left_changes_nothing(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(prompt: str = "", stream: Any = None) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(getpass, "getpass", leave)
    assert "no key was changed" in "\n".join(error_of(models, "%dspex key openai"))


def test_names_are_completed(models: Any) -> None:
    def complete(text: str) -> set[str]:
        with provisionalcompleter():
            return {c.text for c in models.Completer.completions(text, len(text))}

    assert "openai" in complete("%dspex key ope")
    assert {"openai", "text-completion-openai"} <= complete("%dspex key ")
    assert "--from-env-file" in complete("%dspex key openai --f")
    assert {"select", "cache"} <= complete("%dspex lm ")
    assert "last" in complete("%dspex prompt l")
    dx.lab().close()
    assert "openai" in complete("%dspex key ope")


# --- in a real kernel --------------------------------------------------------------------------------------------


@pytest.fixture
def kernel() -> Iterator[Any]:
    # Not by ports: one that was free may be taken when the kernel comes to it. The names of sockets are short.
    folder = tempfile.mkdtemp()
    manager = KernelManager(transport="ipc", connection_file=f"{folder}/k.json")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        shutil.rmtree(folder)


def execute(client: Any, code: str, answer: str | None = None) -> tuple[str, list[dict[str, Any]]]:
    """Run a cell; returns what it wrote or raised, and the prompts it showed, answered with ``answer``."""
    asked = client.execute(code, allow_stdin=answer is not None)
    shown, prompts = "", []
    while True:
        if answer is not None:
            try:
                prompts.append(client.get_stdin_msg(timeout=0.05)["content"])
                client.input(answer)
            except queue.Empty:
                pass
        try:
            message = client.get_iopub_msg(timeout=0.05 if answer is not None else 120)
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status" and content["execution_state"] == "idle":
            return shown, prompts
        shown += str(content) if kind != "status" else ""


def test_a_notebook_asks_for_the_key_with_a_hidden_prompt(kernel: Any) -> None:
    execute(kernel, "%load_ext dspex_lab")
    shown, prompts = execute(kernel, "%dspex key openai", KEY)
    assert prompts == [{"prompt": "Key of openai (OPENAI_API_KEY; it is not shown): ", "password": True}]
    assert "entered here" in shown
    held, _ = execute(
        kernel, "import os\nprint(len(os.environ['OPENAI_API_KEY']), repr(In) + repr(Out) + repr(dir()))\n%history -n"
    )
    assert str(len(KEY)) in held
    for text in (shown, held):
        assert KEY[3:] not in text
    refused, prompts = execute(kernel, "%dspex key groq")
    assert prompts == []
    assert "Nobody can be asked for a key here" in refused
    assert "GROQ_API_KEY" in refused
