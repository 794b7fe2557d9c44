"""POST /execute on a real worker with the script probe, whose text is known."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from m0_models.probes import Probe
    from worker_process import Worker


def expected(probe: Probe, name: str, count: int) -> list[bytes]:
    entry = probe.facts["scripts"][probe.facts["prompts"][name]]
    pieces = [bytes.fromhex(piece) for piece in entry["tokens"]]
    cycle = [bytes.fromhex(piece) for piece in entry["cycle"]]
    while cycle and len(pieces) < count:
        pieces.extend(cycle)
    return pieces[:count]


@pytest.mark.parametrize("name", ["words", "utf8", "joined", "invalid", "stop", "split-stop"])
def test_the_text_of_an_endless_script(worker: Worker, script: Probe, name: str) -> None:
    stream = worker.run(script.facts["prompts"][name], max_tokens=60)
    pieces = expected(script, name, 60)
    assert stream.text == b"".join(pieces).decode(errors="replace")
    assert stream.last["stop_reason"] == "MAX_TOKENS"
    assert stream.last["tokens_out"] == 60


@pytest.mark.parametrize(("name", "count"), [("eos", 7), ("empty", 0), ("cut", 4)])
def test_a_script_that_ends(worker: Worker, script: Probe, name: str, count: int) -> None:
    stream = worker.run(script.facts["prompts"][name])
    assert (stream.last["tokens_out"], stream.last["stop_reason"]) == (count, "EOS")
    # A character cut by the end of sequence is dropped, not turned into U+FFFD.
    assert stream.text == b"".join(expected(script, name, count)).decode(errors="ignore")


def test_each_character_arrives_whole_with_its_last_byte(worker: Worker, script: Probe) -> None:
    stream = worker.run(script.facts["prompts"]["utf8"], max_tokens=12)
    assert [token["t"] for token in stream.tokens()] == [
        *(" utf", "", "é", "", "", "你", " middle ", "", "", "", "😀", " done")
    ]


def test_max_tokens_is_a_prefix(worker: Worker) -> None:
    whole = [token["t"] for token in worker.run(max_tokens=20).tokens()]
    for count in (1, 7, 19):
        assert [token["t"] for token in worker.run(max_tokens=count).tokens()] == whole[:count]


@pytest.mark.parametrize(
    ("name", "stop", "text"), [("stop", "END", " one two"), ("split-stop", "STOP", " four five"), ("eos", " w", "")]
)
def test_a_stop_string_ends_the_text_before_it(worker: Worker, script: Probe, name: str, stop: str, text: str) -> None:
    stream = worker.run(script.facts["prompts"][name], stop=["never", stop], max_tokens=50)
    assert stream.text == text
    assert (stream.last["stop_reason"], stream.last["stop_sequence_matched"]) == ("STOP_SEQUENCE", stop)


def test_half_a_stop_string_at_the_end_of_sequence_is_not_lost(worker: Worker, script: Probe) -> None:
    stream = worker.run(script.facts["prompts"]["eos"], stop=[" w6 and more"])
    assert stream.text == " w0 w1 w2 w3 w4 w5 w6"
    assert [token["t"] for token in stream.tokens()][-1] == " w6"
    assert stream.last["stop_reason"] == "EOS"


def test_started_says_job_model_time_and_seed(worker: Worker) -> None:
    started = worker.run(job_id="ein Auftrag ☂", seed=2**64 - 1, max_tokens=1).events[0][1]
    assert started["job_id"] == "ein Auftrag ☂"
    assert started["seed"] == 2**64 - 1
    assert started["model"] == worker.health()["model"] != ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", started["started_at"])
    assert abs((datetime.now(UTC) - datetime.fromisoformat(started["started_at"])).total_seconds()) < 5


def test_a_seed_is_generated_and_told(worker: Worker) -> None:
    seeds = [worker.run(max_tokens=1).events[0][1]["seed"] for _ in range(5)]
    assert all(isinstance(seed, int) and 0 <= seed < 2**53 for seed in seeds)
    assert len(set(seeds)) == 5


def test_end_tells_whole_milliseconds(worker: Worker) -> None:
    begun = time.perf_counter()
    end = worker.run(max_tokens=50).last
    assert isinstance(end["decode_time_ms"], int)
    assert 0 <= end["decode_time_ms"] <= (time.perf_counter() - begun) * 1e3 + 1


def test_response_headers(worker: Worker) -> None:
    stream = worker.stream(max_tokens=1)
    response = stream.begin()
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-store"
    stream.all()


def test_tokens_are_streamed_as_they_are_made(worker: Worker) -> None:
    stream = worker.stream(max_tokens=2000)
    sent = time.perf_counter()
    stream.all()
    first, last = stream.arrivals[1] - sent, stream.arrivals[-1] - sent
    assert first < last / 2


def test_the_context_ends_a_generation(launch: Any) -> None:
    worker = launch("--max-tokens-in", "8192")
    stream = worker.run("a" * 8000, max_tokens=2048)
    assert stream.last["stop_reason"] == "CONTEXT_LENGTH"
    assert stream.last["tokens_out"] == 8192 - 8000 + 1
    answer = worker.request("POST", "/execute", {"job_id": "a", "prompt": "a" * 8193})
    assert answer.status == 400
    assert [error["field"] for error in answer.json["errors"]] == ["prompt"]


def test_sampling_reaches_the_model(launch: Any, dice: Probe) -> None:
    worker = launch(model=dice.path)

    def faces(**body: object) -> list[str]:
        return [token["t"] for token in worker.run("x", max_tokens=60, **body).tokens()]

    assert faces(seed=1) == faces(seed=1)
    assert len({tuple(faces(seed=seed)) for seed in range(5)}) == 5
    assert len({tuple(faces()) for _ in range(5)}) > 1
    greedy = faces(temperature=0)
    assert len(set(greedy)) == 1
    assert faces(top_k=1, temperature=2) == faces(top_p=0.0) == faces(top_p=1e-6) == greedy
    assert len(set(faces(temperature=0, repetition_penalty=2.0))) > 1
    assert len(set(faces(repetition_penalty=0.0, seed=3))) == 1
    assert faces(top_k=worker.health()["vocab_size"], seed=9) == faces(seed=9)


def test_health_has_every_field(worker: Worker, script: Probe) -> None:
    health = worker.health()
    assert health["status"] == "healthy"
    assert health["model"] == "script probe"
    assert isinstance(health["uptime_seconds"], int)
    assert health["resident"] is False
    assert health["vram_bytes_used"] >= script.path.stat().st_size // 2
    assert health["vocab_size"] == script.facts["vocab"]
    assert health["context_length"] == script.facts["context"]
    assert (health["quant_kind"], health["tokenizer_kind"]) == ("Q4_0", "gguf-bpe")
    assert (health["device"], health["memory_kind"]) == ("cpu", "host")


def test_memory_is_back_at_its_baseline_after_a_job(worker: Worker) -> None:
    before = worker.health()["vram_bytes_used"]
    stream = worker.stream(max_tokens=2048)
    stream.until_token(5)
    assert worker.health()["vram_bytes_used"] > before
    stream.all()
    assert worker.health()["vram_bytes_used"] == before


def test_metrics_count_jobs_and_tokens(worker: Worker) -> None:
    def values() -> dict[str, float]:
        body = worker.request("GET", "/metrics").body.decode()
        lines = [line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    before = values()
    worker.run(max_tokens=30)
    worker.request("POST", "/execute", {"job_id": ""})
    worker.settle()
    after = values()

    def delta(name: str) -> float:
        return after[name] - before[name]

    assert delta('worker_requests_total{outcome="success"}') == 1
    assert delta('worker_requests_total{outcome="rejected"}') == 1
    assert delta('worker_tokens_generated_total{quant_kind="Q4_0"}') == 30
    assert delta("worker_inference_duration_ms_count") == 1
    assert delta("worker_inference_duration_ms_sum") > 0
    assert delta("worker_uptime_seconds") > 0
    assert after['worker_vram_bytes{quant_kind="Q4_0"}'] == worker.health()["vram_bytes_used"]


def test_neither_prompt_nor_text_is_in_the_log(worker: Worker) -> None:
    canary = "canary-3f9c1b"
    stream = worker.run(canary, job_id="privacy", max_tokens=5, stop=[canary])
    worker.request("POST", "/execute", {"job_id": "privacy-2", "prompt": canary, "temperature": canary})
    end = worker.event("execute_end", job_id="privacy")
    start = worker.event("execute_start", job_id="privacy")
    assert canary not in worker.raw
    assert json.dumps(stream.text)[1:-1] not in worker.raw
    assert (start["prompt_length"], end["text_length"]) == (len(canary), len(stream.text))
    for line in worker.lines:
        assert {"worker_id", "model_ref", "gpu_device", "event", "timestamp", "level"} <= set(line)
        assert {"vram_bytes", "tokens_in", "tokens_out", "decode_time_ms", "first_token_ms"}.isdisjoint(
            set(line) - ({"vram_bytes"} if line["event"] == "ready" else set())
        )
