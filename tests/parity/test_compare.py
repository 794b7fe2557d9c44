"""Alignment, metrics, refusals, shifts and steps, on recordings made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from m0_parity.compare import IncomparableError, compare
from m0_parity.metrics import logit_gap, nmse, row_nmse, row_sums
from m0_parity.names import Place, from_llamacpp, from_worker, rank
from m0_parity.recording import Recording, Request, Rows
from m0_parity.validate import suspicions

PLACES: tuple[Place, ...] = ((-1, "embd"), (0, "attn_norm"), (0, "l_out"), (1, "attn_norm"), (1, "l_out"))
TOKENS = 24
WIDTH = 64


def recording(seed: int = 0, **provenance: str) -> Recording:
    rng = np.random.default_rng(seed)
    request = Request("first", list(range(TOKENS)), TOKENS)
    for place in (*PLACES, (-1, "result_output")):
        values = rng.standard_normal((TOKENS, WIDTH)).astype(np.float32)
        request.rows[place] = Rows(np.arange(TOKENS), values, WIDTH)
    return Recording({"architecture": "llama", "model_sha256": "aa", **provenance}, {"first": request})


def with_error(places: tuple[Place, ...], size: float, start: int = 0) -> Recording:
    wrong = recording()
    for place in places:
        rows = wrong.requests["first"].rows[place]
        rows.values[start:] += np.float32(size)
    return wrong


def test_equal_recordings_are_equal_bit_for_bit() -> None:
    result = compare(recording(), recording())
    assert result.worst().nmse == 0
    assert result.shift == 0
    assert result.first_step(lambda _: 0.0) is None


def test_the_first_step_is_where_the_error_begins_and_not_where_it_is_largest() -> None:
    wrong = with_error(((0, "l_out"),), 1e-3, start=5)
    for place in ((1, "attn_norm"), (1, "l_out")):
        wrong.requests["first"].rows[place].values[5:] += np.float32(0.1)
    result = compare(recording(), wrong)
    step = result.first_step(lambda _: 1e-10)
    assert step is not None
    assert step.place == (0, "l_out")
    assert step.first_position(1e-10) == 5
    assert result.worst().place[0] == 1


def test_slow_growth_is_no_step_but_is_not_silent() -> None:
    wrong = recording()
    for number, place in enumerate((*PLACES, (-1, "result_output"))):
        wrong.requests["first"].rows[place].values[...] *= np.float32(1 + 1e-5 * 1.2**number)
    first = compare(recording(), wrong).first_step(lambda _: 1.5e-10)
    assert first is not None
    assert first.nmse > 1.5e-10


@pytest.mark.parametrize("shift", [1, -1, 2])
def test_shifted_positions_are_recognized(shift: int) -> None:
    moved = recording()
    request = moved.requests["first"]
    request.rows = {p: Rows(rows.positions - shift, rows.values, rows.features) for p, rows in request.rows.items()}
    assert compare(recording(), moved).shift == shift


def test_a_wrong_model_is_no_shift() -> None:
    assert compare(recording(), recording(seed=1)).shift == 0


def other_tokens(r: Recording) -> None:
    r.requests["first"].tokens[7] = 99


def no_tokens(r: Recording) -> None:
    r.requests["first"].tokens.clear()


def other_model(r: Recording) -> None:
    r.provenance["model_sha256"] = "bb"


def other_architecture(r: Recording) -> None:
    r.provenance["architecture"] = "qwen2"


def other_request(r: Recording) -> None:
    r.requests["second"] = r.requests.pop("first")


def other_places(r: Recording) -> None:
    r.requests["first"].rows = {(0, "Qcur"): r.requests["first"].rows[0, "l_out"]}


def other_positions(r: Recording) -> None:
    rows = r.requests["first"].rows[0, "l_out"]
    r.requests["first"].rows[0, "l_out"] = Rows(rows.positions + 1000, rows.values, rows.features)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_tokens, "position 7"),
        (no_tokens, "24 input tokens against 0"),
        (other_model, "models differ"),
        (other_architecture, "architectures differ"),
        (other_request, "no request in common"),
        (other_places, "no checkpoint in common"),
        (other_positions, "no position in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: object, word: str) -> None:
    candidate = recording()
    change(candidate)  # type: ignore[operator]  # parametrized
    with pytest.raises(IncomparableError, match=word):
        compare(recording(), candidate)


def test_a_twin_counts_as_the_same_model() -> None:
    compare(recording(model_sha256="twin", twin_of="aa"), recording())


def test_another_width_is_a_finding() -> None:
    candidate = recording()
    rows = candidate.requests["first"].rows[0, "l_out"]
    candidate.requests["first"].rows[0, "l_out"] = Rows(rows.positions, rows.values[:, :32], 32)
    assert compare(recording(), candidate).worst().nmse == np.inf


def test_not_a_number_is_the_worst_there_is() -> None:
    candidate = recording()
    candidate.requests["first"].rows[1, "l_out"].values[3, 3] = np.nan
    result = compare(recording(), candidate)
    assert result.worst().place == (1, "l_out")
    assert result.worst().nmse == np.inf
    assert result.worst().cosine == 0
    assert result.exceeding(lambda _: 1e30)


def test_metrics_by_hand() -> None:
    a = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32)
    b = np.array([[3.0, 5.0], [0.0, 0.0]], dtype=np.float32)
    assert nmse(a, b) == pytest.approx(1 / 25)
    assert row_nmse(a, b).tolist() == pytest.approx([1 / 25, 0])
    assert row_sums(a, b).max_abs() == 1
    assert row_sums(a, 2 * a).cosine() == pytest.approx(1)
    assert nmse(0 * a, b) == np.inf


def test_logit_gap_explains_ties_only() -> None:
    rng = np.random.default_rng(0)
    reference = np.zeros((2, 1000), dtype=np.float32)
    reference[:, :2] = [[4.001, 4.0], [8.0, 4.0]]
    candidate = reference + np.float32(0.01) * rng.standard_normal(reference.shape).astype(np.float32)
    candidate[0, :2] = [4.0, 4.001]  # a near tie turned
    candidate[1, :2] = [4.0, 8.0]  # a clear choice turned
    gap = logit_gap(reference, candidate)
    assert gap.top1.tolist() == [False, False]
    assert gap.unexplained().tolist() == [1]
    assert gap.kl[0] < 1e-3 < gap.kl[1]
    assert gap.rank.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("node", "op", "place"),
    [
        ("l_out-11", "ADD", (11, "l_out")),
        ("Qcur-1", "MUL_MAT", None),
        ("Qcur-1", "RESHAPE", (1, "Qpre")),
        ("Qcur-1", "ROPE", (1, "Qcur")),
        ("Qcur-1", "SCALE", None),
        ("Vcur-0 (cont)", "CONT", None),
        ("attn_post_norm-2", "MUL", (2, "ffn_norm")),
        ("embd", "GET_ROWS", (-1, "embd")),
        ("node_12", "ADD", None),
        ("cache_k_l0 (view)", "VIEW", None),
    ],
)
def test_graph_nodes_translate(node: str, op: str, place: Place | None) -> None:
    assert from_llamacpp(node, op) == place


def test_worker_taps_translate() -> None:
    assert [from_worker("Qcur", 3, n) for n in (0, 1)] == [(3, "Qpre"), (3, "Qcur")]
    assert from_worker("wqkv", 0, 0) is None
    assert min([(-1, "result_norm"), (0, "l_out"), (-1, "embd")], key=rank) == (-1, "embd")


def constant(values: np.ndarray) -> None:
    values[:, 7] = 0.0


def pointers(values: np.ndarray) -> None:
    values.view(np.uint32)[:, 0] = 0xC7350000 + 16 * np.arange(len(values), dtype=np.uint32) * 37


def filled(values: np.ndarray) -> None:
    values.view(np.uint32)[5, 20:] = 0xCDCDCDCD


def stale(values: np.ndarray) -> None:
    values[1:20] = values[0]


def not_finite(values: np.ndarray) -> None:
    values[2, 1] = np.inf


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (constant, "index 7 is exactly"),
        (pointers, "pointers"),
        (filled, "0xcdcdcdcd fills"),
        (stale, "repeats row 0 bit for bit"),
        (not_finite, "finite"),
    ],
)
def test_a_damaged_reference_is_suspect(damage: object, word: str) -> None:
    suspect = recording()
    assert suspicions(suspect) == []
    damage(suspect.requests["first"].rows[1, "l_out"].values)  # type: ignore[operator]  # parametrized
    assert any(word in problem and "l_out of layer 1" in problem for problem in suspicions(suspect))


def test_the_few_levels_of_ternary_weights_are_no_damage() -> None:
    sound = recording()
    rows = sound.requests["first"].rows
    words = rows[1, "l_out"].values.view(np.uint32)
    words[:, 3] = 0x3C400000 + 0x2000 * (np.arange(TOKENS) % 7)  # FP16 scales that are near each other
    words[:, 4] = np.where(np.arange(TOKENS) % 5 == 0, 0x3E000000, 0)  # a level of zero, normed
    assert suspicions(sound) == []


def test_massive_activations_are_no_damage() -> None:
    """A trained model's first position holds values of ten thousand times the median."""
    sound = recording()
    sound.requests["first"].rows[1, "l_out"].values[0, 5] = 2e18
    assert suspicions(sound) == []


def test_the_same_token_may_have_the_same_row_and_logits_may_be_level() -> None:
    sound = recording()
    request = sound.requests["first"]
    request.tokens[:] = [7] * TOKENS
    request.rows[-1, "embd"].values[...] = request.rows[-1, "embd"].values[0]
    request.rows[-1, "result_output"].values[:, 9:] = -30.0
    request.rows[-1, "result_output"].values[0, 9:] = -29.0
    request.rows[-1, "result_output"].values[1, 9:] = -28.0
    assert not any("repeats" in doubt or "fills" in doubt for doubt in suspicions(sound))


def lacking_positions(r: Recording) -> None:
    request = r.requests["first"]
    request.rows = {p: Rows(x.positions[:1], x.values[:1], x.features) for p, x in request.rows.items()}


def lacking_tokens(r: Recording) -> None:
    lacking_positions(r)
    r.requests["first"].tokens = r.requests["first"].tokens[:1]


def lacking_place(r: Recording) -> None:
    del r.requests["first"].rows[0, "l_out"]


def lacking_request(r: Recording) -> None:
    del r.requests["second"]


def lacking_values(r: Recording) -> None:
    request = r.requests["first"]
    request.rows = {p: Rows(x.positions, x.values[:, :10], x.features) for p, x in request.rows.items()}


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("lack", "words"),
    [
        (lacking_positions, "positions of one side only, 23 of a checkpoint"),
        (lacking_tokens, "23 input tokens in the"),
        (lacking_place, "1 checkpoint in the"),
        (lacking_request, "1 request of one side only: second"),
        (lacking_values, "whole vectors of one side only"),
    ],
)
def test_what_one_side_lacks_is_said(lack: object, words: str, swapped: bool) -> None:
    sides = [recording(), recording()]
    for side in sides:
        side.requests["second"] = Request("second", list(range(TOKENS)), TOKENS, dict(side.requests["first"].rows))
    lack(sides[1])  # type: ignore[operator]  # parametrized
    result = compare(*reversed(sides)) if swapped else compare(*sides)
    assert result.worst().nmse == 0
    assert any(words in what for what in result.missing())
    assert compare(recording(), recording()).missing() == []
