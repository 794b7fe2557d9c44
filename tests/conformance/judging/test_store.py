"""What is stored is what was judged, and holds no credential."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from judging_samples import GOOD, execute, recording, sse
from m0_conformance.recording.store import RunStore, StoreError, cleaned, read_recording
from m0_conformance.recording.transcript import Launch, LogLine

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "sk-canary-31415926"


def test_credentials_and_home_folders_are_taken_out_before_hashing(tmp_path: Path) -> None:
    check = recording(execute(sse(*GOOD), request_headers=[("Authorization", f"Bearer {CANARY}")]))
    check.exchanges[0].headers.append(("Set-Cookie", CANARY))
    check.launches.append(
        Launch("w", ["/home/ann/w", "--header", f"Authorization: Bearer {CANARY}"], env={"AUTHORIZATION": CANARY})
    )
    check.launches[0].lines.append(LogLine("stderr", 0.1, f"loaded /home/ann/m.gguf, authorization: {CANARY}"))
    check.facts["note"] = f"cookie: {CANARY}"
    with RunStore(tmp_path) as store:
        stored = cleaned(check)
        sha = store.recording(stored)
        store.footer()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes()
            assert b"/home/ann" not in path.read_bytes()
    assert read_recording(tmp_path, sha) == stored
    assert stored.exchanges[0].chunks == check.exchanges[0].chunks


def test_a_missing_or_changed_recording_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        sha = store.recording(cleaned(recording(execute(sse(*GOOD)))))
    path = tmp_path / "transcripts" / f"{sha}.json"
    path.write_text(path.read_text().replace("w1", "w9"))
    with pytest.raises(StoreError, match="was changed"):
        read_recording(tmp_path, sha)
    path.write_text("[]")
    with pytest.raises(StoreError, match="no recording"):
        read_recording(tmp_path, sha)
    path.unlink()
    with pytest.raises(StoreError, match="is missing"):
        read_recording(tmp_path, sha)
