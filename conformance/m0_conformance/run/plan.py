"""What a run has time for: the cheapest checks first, and no check that will not end within the budget.

How many tokens a check takes of a worker was counted on a slow one; with the pace that the doctor has measured that is
a time. What did not fit is NOT_TESTED, says so, and is listed at the end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from m0_conformance.run.calibration import Calibration

TOKENS: Final = {
    "generation::test_length_that_nobody_asked_for": 2060, "sampling::test_temperature_scales_the_odds": 960,
    "sampling::test_penalty": 960, "sampling::test_cuts": 960, "sampling::test_relations_on_dice": 700,
    "sampling::test_relations_on_any_model": 700, "tokenizers::test_vectors": 550,
    "jobs::test_two_jobs_with_memory": 530, "jobs::test_two_jobs": 530, "jobs::test_a_job_id_that_runs_already": 430,
    "text::test_known_texts": 390, "requests::test_same_throw_in_other_words": 360,
    "requests::test_same_job_in_other_words": 360, "reproducibility::test_dice_repeat": 310,
    "jobs::test_any_history": 250, "generation::test_long_generation": 200, "reproducibility::test_greedy_repeats": 150,
    "arguments::test_optional_limits": 150, "cancel::test_cancel_of_a_running_job": 150,
    "stop::test_stop_strings_of_the_targets_own_text": 140, "stop::test_stop_strings_of_known_texts": 130,
    "cancel::test_cancel_of_a_waiting_job": 120, "generation::test_exact_lengths": 120,
    "process::test_two_workers": 110,
    "generation::test_lengths": 100, "reproducibility::test_haiku": 100, "text::test_prompts_of_any_characters": 100,
    "jobs::test_a_client_that_leaves": 80, "cancel::test_cancel_latency": 80,
    "events::test_fields_of_ordinary_streams": 70, "streaming::test_ordinary_streams": 70,
}  # fmt: skip
"""Tokens that a check takes of a slow worker; where the worker is fast, some ask for more and take no longer."""
OTHERS: Final = 40
HEAVY: Final = 500
"""Checks of so many tokens come after all others, whichever worker they need."""
REPEATS: Final = "conditions::"
"""Begins the names of checks that repeat others under other conditions."""
REPEAT: Final = 600
"""Tokens of a repeat: those come last of all, since what they show has been seen to hold elsewhere."""
LAUNCHES: Final = 80
BESIDE_S: Final = {"m0-wire": 25.0, "m0-process": 70.0, "m0": 300.0}
"""What a whole run takes beside the tokens and the loading, on two processors."""
BUDGET_S: Final = 600.0
FAST_S: Final = 60.0


def tokens_of(check: str) -> int:
    """How many tokens a check takes of a slow worker."""
    return REPEAT if check.startswith(REPEATS) else TOKENS.get(check.partition("[")[0], OTHERS)


@dataclass(slots=True)
class Plan:
    """The time a run has, and what did not fit into it."""

    budget_s: float | None
    hurry: float = 1.0
    """How much shorter than usual jobs are that only have to last a while."""
    left_out: list[str] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)

    def takes(self, check: str, pace: Calibration) -> float:
        """About how many seconds a check takes of this worker."""
        return tokens_of(check) / self.hurry * pace.token_s

    def fits(self, check: str, pace: Calibration) -> bool:
        """Whether a check will have ended when the time is over; one that will not is noted."""
        if self.budget_s is None or time.monotonic() - self._begun + self.takes(check, pace) <= self.budget_s:
            return True
        self.left_out.append(check)
        return False

    def estimate(self, checks: list[str], profile: str, pace: Calibration) -> str:
        """One sentence before the run."""
        launches = 1 if profile == "m0-wire" else min(LAUNCHES, len(checks))
        seconds = BESIDE_S[profile] * min(1.0, len(checks) / 60) + launches * (pace.load_s or 0.0) * 0.5
        seconds += sum(self.takes(check, pace) for check in checks)
        rate = f"{1 / pace.token_s:.0f} tokens/s" if pace.token_s > 0 else "an unknown pace"
        load = f", {pace.load_s:.1f} s to load" if pace.load_s is not None else ""
        limit = "no limit" if self.budget_s is None else f"--budget {self.budget_s / 60:g} min"
        return (
            f"{len(checks)} checks take about {max(seconds, 1.0) / 60:.1f} min of this worker ({rate}{load}); {limit}"
        )

    def reason(self, check: str, pace: Calibration) -> str:
        """Why a check was left out."""
        limit = (self.budget_s or 0.0) / 60
        return f"did not fit into --budget {limit:g} min: it takes about {self.takes(check, pace):.0f} s of this worker"
