"""What an engine that asks a provider must do when the provider fails, and what it must never give away."""
# ruff: noqa: S101 - these are tests

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from typing import Any

import pytest

from dspex_lab.testing._any_lm import ask, assembled, astream, close, stream, text_of
from dspex_lab.testing._engine_conformance import TEXT
from dspex_lab.testing._faulty import FaultyServer
from dspex_lab.testing._faulty_fault import Fault
from dspex_lab.testing._gate import Gate
from dspex_lab.testing._provider_cases import (
    BROKEN,
    REFUSALS,
    SPOILT,
    USAGES,
    Case,
    all_of,
    check_error,
    check_raised,
    dspy_error,
    either,
    lm15,
    names,
)
from dspex_lab.testing._provider_suite import KEY, ProviderSuite
from dspex_lab.testing._reply import Reply


class ProviderConformance(ProviderSuite):
    """Inherit, say what the engine can do, and make its LM for the address of a :class:`FaultyServer` (:meth:`make_lm`)."""

    # What comes with a status.

    @pytest.mark.parametrize("case", REFUSALS, ids=names(REFUSALS))
    def test_a_refusal_is_named_with_the_providers_words(self, case: Case) -> None:
        server = self.server(faults=case.fault)
        lm = self.asking(server)
        for error in (self._failure(lm), self._async_failure(lm)):
            check_raised(error, case)
        assert server.counts.arrived == 2, "an engine makes one attempt"

    @pytest.mark.parametrize("case", REFUSALS, ids=names(REFUSALS))
    def test_a_refused_stream_is_named_alike(self, case: Case) -> None:
        self._need("streaming")
        lm = self.asking(self.server(faults=case.fault))
        error, pieces = self._broken(lm)
        assert pieces == []
        check_error(error, case)

    # What goes wrong on the way.

    @pytest.mark.parametrize("case", SPOILT, ids=names(SPOILT))
    def test_a_spoilt_answer_is_named(self, case: Case) -> None:
        server = self.server(faults=case.fault)
        lm = self.asking(server)
        for error in (self._failure(lm), self._async_failure(lm)):
            check_raised(error, case)
        assert server.counts.arrived == 2, "an engine makes one attempt"

    @pytest.mark.parametrize("case", BROKEN, ids=names(BROKEN))
    def test_a_broken_stream_is_named(self, case: Case) -> None:
        self._need("live")
        lm = self.asking(self.server(faults=case.fault))
        for error, pieces in (self._broken(lm), self._async_broken(lm)):
            # What the client had not read yet is lost with a connection that is reset.
            assert pieces == ["one ", "two "] or (case.name == "reset" and pieces in ([], ["one "]))
            check_error(error, case)

    @pytest.mark.parametrize("case", BROKEN, ids=names(BROKEN))
    def test_a_broken_stream_keeps_what_it_had(self, case: Case) -> None:
        self._need("streaming")
        self._need("partial")
        lm = self.asking(self.server(faults=case.fault))
        for error, pieces in (self._broken(lm), self._async_broken(lm)):
            if pieces or case.name != "reset":
                assert error.partial.text == "".join(pieces) != ""

    @pytest.mark.parametrize("what", ["garbage", "body", "choices", "no_choices"])
    def test_a_stream_without_an_answer_is_an_error(self, what: str) -> None:
        self._need("streaming")
        fault = Fault.garbage() if what == "garbage" else Fault.empty(what)  # type: ignore[arg-type]
        error, pieces = self._broken(self.asking(self.server(faults=fault)))
        assert pieces == []
        assert isinstance(error, lm15("LM15Error"))

    @pytest.mark.parametrize("after", [None, 0])
    def test_a_server_that_does_not_answer_is_a_timeout(self, after: int | None) -> None:
        self._need("timeout")
        server = self.server(faults=Fault.hang(after))
        lm = self.asking(server, timeout=0.3)
        for error in (self._failure(lm), self._async_failure(lm)):
            assert isinstance(error, dspy_error("LMTimeoutError"))
        assert server.idle(), "what is no longer waited for is closed"

    def test_a_server_that_is_not_there_is_named(self) -> None:
        with FaultyServer() as server:
            lm = self.asking(server)
        for error in (self._failure(lm), self._async_failure(lm)):
            assert isinstance(error, dspy_error("LMTransportError"))

    def test_a_slow_answer_is_read_to_its_end(self) -> None:
        lm = self.asking(self.server(faults=Fault.drip()))
        assert lm(request=ask(lm)).text == TEXT
        if self.declared.streaming:
            assert text_of(stream(lm, ask(lm))) == TEXT

    # What stands in the answer.

    @pytest.mark.parametrize("what", USAGES)
    def test_wrong_counts_of_tokens_spoil_no_answer(self, what: Any) -> None:
        lm = self.asking(self.server(faults=Fault.usage(what)))
        responses = [lm(request=ask(lm))]
        if self.declared.streaming:
            responses.append(assembled(ask(lm), stream(lm, ask(lm))))
        for response in responses:
            assert response.text == TEXT
            for count in (response.usage.input_tokens, response.usage.output_tokens):
                assert count is None or count >= 0

    @pytest.mark.parametrize("what", ["content", "null"])
    def test_an_answer_that_says_nothing_is_no_crash(self, what: Any) -> None:
        lm = self.asking(self.server(faults=Fault.empty(what)))
        response, error = either(lambda: lm(request=ask(lm)))
        assert type(error) is not dspy_error("LMUnexpectedError")
        assert error is not None or not response.text

    def test_a_refusal_of_the_model_is_kept_apart_from_text(self) -> None:
        lm = self.asking(self.server(faults=Fault.refusal("I cannot help with that.")))
        response, error = either(lambda: lm(request=ask(lm)))
        assert error is None or "I cannot help with that." in str(error)
        parts = (response or error.partial).message.parts
        assert [part.text for part in parts if part.type == "refusal"] == ["I cannot help with that."]

    def test_a_filtered_answer_says_so_and_keeps_what_there_is(self) -> None:
        lm = self.asking(self.server(faults=Fault.content_filter()))
        response = lm(request=ask(lm))
        assert (response.finish_reason, response.text) == ("content_filter", TEXT[: len(TEXT) // 2])

    def test_an_answer_cut_by_its_limit_says_so(self) -> None:
        lm = self.lm(Reply(TEXT, finish="length"))
        assert lm(request=ask(lm)).finish_reason == "length"

    def test_the_words_of_a_model_that_ignores_the_schema_are_not_lost(self) -> None:
        lm = self.asking(self.server({"label": "card"}, faults=Fault.schema_ignored("It is about the card.")))
        schema = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
        asked = ask(lm, response_format={"type": "json_schema", "name": "found", "schema": schema})
        response, error = either(lambda: lm(request=asked))
        kept = response.text if error is None else f"{getattr(getattr(error, 'partial', None), 'text', '')} {error}"
        assert "It is about the card." in kept

    # Connections.

    def test_connections_are_kept(self) -> None:
        server = self.server()
        lm = self.asking(server)
        for _ in range(5):
            lm(request=ask(lm))
        assert server.counts.connections == 1

        async def five() -> None:
            for _ in range(5):
                await lm.acall(request=ask(lm))

        server.clear()
        self.run(lm, five)
        assert server.counts.connections == 1

    def test_a_connection_is_used_again_after_a_refusal(self) -> None:
        server = self.server(faults=[Fault.server_error(), Fault.rate_limit(1)])
        lm = self.asking(server)
        self._failure(lm)
        self._failure(lm)
        assert lm(request=ask(lm)).text == TEXT
        assert server.counts.connections == 1

    def test_a_kept_connection_that_the_server_closed_is_replaced(self) -> None:
        server = self.server(faults={1: Fault.stale()})
        lm = self.asking(server)
        assert lm(request=ask(lm)).text == TEXT
        assert server.disconnected()
        assert lm(request=ask(lm)).text == TEXT

    def test_closing_closes_the_connections(self) -> None:
        server = self.server()
        lm = self.asking(server)
        lm(request=ask(lm))
        self.run(lm, lambda: lm.acall(request=ask(lm)))
        close(lm)
        assert server.disconnected()

    def test_a_cancelled_call_is_closed_at_the_server(self) -> None:
        server = self.server(faults=Fault.hang())
        lm = self.asking(server)

        async def cancel() -> bool:
            call = asyncio.ensure_future(lm.acall(request=ask(lm)))
            assert await asyncio.to_thread(server.reached, 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await asyncio.to_thread(server.abandoned, 1)

        assert self.run(lm, cancel)

    def test_a_stream_that_is_left_is_closed_at_the_server(self) -> None:
        self._need("live")
        gate = Gate()
        server = self.server(gate=gate)
        lm = self.asking(server, timeout=30)
        gate.open(1)
        events = stream(lm, ask(lm))
        first = next(event for event in events if event.type == "delta")
        assert first.delta.text == "one "
        events.close()
        assert server.abandoned(1)

        async def leave() -> bool:
            gate.open(1)
            events = astream(lm, ask(lm))
            async for event in events:
                if event.type == "delta":
                    break
            await events.aclose()
            return await asyncio.to_thread(server.abandoned, 2)

        assert self.run(lm, leave)

    def test_a_piece_is_handed_out_before_the_next_is_made(self) -> None:
        self._need("live")
        gate = Gate()
        server = self.server(gate=gate)
        lm = self.asking(server, timeout=30)
        events = stream(lm, ask(lm))
        got = []
        for _ in TEXT.split():
            gate.open(1)
            got.append(next(event for event in events if event.type == "delta").delta.text)
        assert "".join(got) == TEXT
        assert [event.type for event in events if event.type != "delta" or event.delta.text] == ["end"]

    def test_calls_are_under_way_at_once(self) -> None:
        hold = Gate()
        server = self.server(hold=hold)
        lm = self.asking(server, timeout=30)
        threads = [threading.Thread(target=lambda: lm(request=ask(lm))) for _ in range(8)]
        for thread in threads:
            thread.start()
        together = server.flying(8)
        hold.open()
        for thread in threads:
            thread.join()
        assert together

    def test_async_calls_are_under_way_at_once(self) -> None:
        hold = Gate()
        server = self.server(hold=hold)
        lm = self.asking(server, timeout=30)

        async def many() -> bool:
            calls = [asyncio.ensure_future(lm.acall(request=ask(lm))) for _ in range(8)]
            together = await asyncio.to_thread(server.flying, 8)
            hold.open()
            await asyncio.gather(*calls)
            return together

        assert self.run(lm, many)

    # The key.

    def test_the_key_reaches_the_server_and_nobody_else(self) -> None:
        other = self.server()
        server = self.server(faults=Fault.redirect(f"{other.url}/chat/completions"))
        lm = self.asking(server)
        with contextlib.suppress(dspy_error("LMError")):
            lm(request=ask(lm))
        assert server.requests[0].key == KEY
        assert [request.key for request in other.requests if request.key] == []

    def test_the_key_is_in_nothing_that_is_shown_or_saved(self) -> None:
        lm = self.asking(self.server())
        lm(request=ask(lm))
        lm("Say it.")
        shown = [repr(lm), str(lm), repr(lm.engine), str(lm.engine), repr(getattr(lm, "_async_engine_spec", None))]
        shown += [repr(lm.history), json.dumps(lm.dump_state(), default=repr)]
        if self.declared.saved:
            from dspex_lab.lms import portable

            shown.append(json.dumps(portable(lm)))
        for text in shown:
            assert KEY not in text

    def test_the_key_is_in_no_pickle(self) -> None:
        self._need("hides_key")
        import cloudpickle

        lm = self.asking(self.server())
        lm(request=ask(lm))
        for holder in (lm, lm.engine, lm._async_engine_spec):
            assert KEY.encode() not in cloudpickle.dumps(holder)

    @pytest.mark.parametrize("what", ["none", "wrong_key", "server_error", "garbage", "reset"])
    def test_the_key_is_in_no_error_and_no_telemetry(self, what: str) -> None:
        self._hidden(None if what == "none" else getattr(Fault, what)())

    def test_a_key_that_the_provider_repeats_is_masked(self) -> None:
        self._hidden(Fault.wrong_key(echo=True))

    def _hidden(self, fault: Fault | None) -> None:
        """Check that the key is in nothing a call leaves behind."""
        import dspy

        from dspex_lab.lms import CONTEXT_KEY, Recorder, install

        install()
        records: list[Any] = []
        lm = self.asking(self.server(faults=fault))
        shown: list[str] = []
        with dspy.context(**{CONTEXT_KEY: Recorder(records.append, "run")}):
            for call in (lambda: lm("Say it."), lambda: self.run(lm, lambda: lm.acall("Say it."))):
                try:
                    call()
                except dspy.LMError as error:
                    shown += all_of(error)
        assert bool(shown) == (fault is not None)
        assert records
        shown += [repr(record) for record in records]
        shown += [json.dumps(record, default=repr) for record in records]
        shown += [repr(lm.history), repr(lm)]
        for text in shown:
            assert KEY not in text
