"""Picks the corpus of the transcript operators out of a finished run of the bundled worker.

    python -m m0_conformance run --profile m0-wire --report-dir DIR
    PYTHONPATH=. python tests/conformance/operators/record_corpus.py DIR

Recordings are kept byte for byte, but without the worker's process (its arguments are paths of the machine) and with
one port for all.
"""

from __future__ import annotations

import sys
from pathlib import Path

from m0_conformance.recording.store import read_recording
from m0_conformance.report.document import read_report

CORPUS = Path(__file__).parent / "corpus"
CHECKS = {
    "streams": "streaming::test_ordinary_streams",
    "health": "health::test_health_body",
    "cancel-twice": "cancel::test_cancel_twice",
    "cancel-other": "cancel::test_cancel_of_another_job",
    "cancel-late": "cancel::test_cancel_after_the_end",
    "cancel-waiting": "cancel::test_cancel_of_a_waiting_job",
    "cancel-malformed": "cancel::test_malformed_cancels",
    "error-event": "events::test_an_error_event",
    "one-model": "generation::test_one_model_for_life",
    "disconnect": "jobs::test_a_client_that_leaves",
    "greedy": "reproducibility::test_greedy_repeats",
    "seeded": "reproducibility::test_haiku",
    "stop": "stop::test_stop_strings_of_the_targets_own_text",
    "stop-lists": "requests::test_stop_lists_and_the_smallest_body",
    "lengths": "generation::test_lengths",
    "refusals": "requests::test_numbers_and_required_fields",
    "routes": "refusals::test_routes",
}


def main(folder: Path) -> None:
    """Write corpus/<name>.json for every check above."""
    found = {check: sha for sha, check in read_report(folder)["recordings"].items()}
    for name, check in CHECKS.items():
        recording = read_recording(folder, found[check])
        recording.launches.clear()
        for exchange in recording.exchanges:
            exchange.host = "127.0.0.1:8080"
        path = CORPUS / f"{name}.json"
        path.write_bytes(recording.encode() + b"\n")
        sys.stdout.write(f"{path.name:<24} {path.stat().st_size:>7} bytes, {len(recording.exchanges)} exchanges\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
