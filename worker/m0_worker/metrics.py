"""GET /metrics (M0-W-1350): plain counters while jobs run, Prometheus text only when somebody asks."""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric

OUTCOMES = ("success", "error", "cancelled", "disconnected", "timeout", "rejected")
# Milliseconds: from a few tokens of a small model to the default inference timeout.
_BUCKETS_MS = (5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5)


class Metrics:
    """The counters of one worker. A Prometheus collector."""

    def __init__(self, quant_kind: str, vram_bytes: Callable[[], int], uptime_s: Callable[[], float]) -> None:
        self._labels = [quant_kind]
        self._vram_bytes = vram_bytes
        self._uptime_s = uptime_s
        self._requests = dict.fromkeys(OUTCOMES, 0)
        self._tokens = 0
        self._buckets = [0] * (len(_BUCKETS_MS) + 1)  # the last is +Inf
        self._duration_sum_ms = 0.0
        self._deadline_s: float | None = None

    def finished(self, outcome: str, tokens: int, duration_ms: float) -> None:
        """Count a job that ran or waited."""
        self._requests[outcome] += 1
        self._tokens += tokens
        self._buckets[bisect_left(_BUCKETS_MS, duration_ms)] += 1
        self._duration_sum_ms += duration_ms

    def rejected(self) -> None:
        """Count a request that never became a job."""
        self._requests["rejected"] += 1

    def deadline(self, remaining_s: float) -> None:
        """Note how much time an X-Deadline header left."""
        self._deadline_s = remaining_s

    async def text(self) -> bytes:
        """The Prometheus text format."""
        # Fifty milliseconds of imports when it is first asked for: neither a start nor a job has to wait for them.
        if "prometheus_client" not in sys.modules:
            await asyncio.to_thread(__import__, "prometheus_client")
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - imported at first use

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus client calls when it renders."""
        from prometheus_client.core import (  # noqa: PLC0415 - imported at first use
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        vram = GaugeMetricFamily("worker_vram_bytes", "Device memory in use, bytes.", labels=["quant_kind"])
        vram.add_metric(self._labels, self._vram_bytes())
        yield vram
        requests = CounterMetricFamily("worker_requests", "POST /execute requests by outcome.", labels=["outcome"])
        for outcome, count in self._requests.items():
            requests.add_metric([outcome], count)
        yield requests
        tokens = CounterMetricFamily("worker_tokens_generated", "Tokens generated.", labels=["quant_kind"])
        tokens.add_metric(self._labels, self._tokens)
        yield tokens
        total, buckets = 0, []
        for bound, count in zip((*map(str, _BUCKETS_MS), "+Inf"), self._buckets, strict=True):
            total += count
            buckets.append((bound, total))
        duration = HistogramMetricFamily("worker_inference_duration_ms", "Duration of a job, milliseconds.")
        duration.add_metric([], buckets, self._duration_sum_ms)
        yield duration
        yield GaugeMetricFamily("worker_uptime_seconds", "Seconds since the model was ready.", self._uptime_s())
        if self._deadline_s is not None:
            name = "worker_deadline_remaining_seconds"
            yield GaugeMetricFamily(name, "Time the last X-Deadline header left, seconds.", self._deadline_s)
