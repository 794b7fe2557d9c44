"""Defects of GET /health: its fields, and what it says of the tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.lies import is_health

if TYPE_CHECKING:
    from m0_conformance.saboteur.defect import Proxy
    from m0_conformance.saboteur.http import Answer, Request


ABSENT: Any = object()


class HealthField(Defect):
    """Sets one field of the body, or takes it away."""

    field: ClassVar[str] = ""
    value: ClassVar[Any] = ABSENT

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        body.pop(self.field, None)
        return body if self.value is ABSENT else {**body, self.field: self.value}


class HealthPlain(Defect):
    name = "health-plain-text"
    about = "/health is announced as plain text."
    kills = ("M0-W-1320/answers-json",)
    source = "a framework's default"

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if is_health(request):
            answer.head.set("content-type", "text/plain; charset=utf-8")
        return answer


class Health204(Defect):
    name = "health-201"
    about = "/health is answered with 201."
    kills = ("M0-W-1320/answers-json",)
    source = "a wrong default status"

    async def answer(self, request: Request, answer: Answer, proxy: Proxy) -> Answer:
        if is_health(request) and answer.head.status == 200 and proxy.answered > 1:
            answer.head.status = 201
        return answer


class StatusOk(HealthField):
    name = "health-status-ok"
    about = "status is the word ok."
    kills = ("M0-W-1320/status",)
    source = "known defect 11: upstream's body"
    field, value = "status", "ok"


class StatusUnhealthy(HealthField):
    name = "health-always-unhealthy"
    about = "status is unhealthy whatever happens."
    kills = ("M0-W-1320/status",)
    source = "known defect 11: the flag is a constant"
    field, value = "status", "unhealthy"


class ModelMissing(HealthField):
    name = "health-without-model"
    about = "/health lacks model."
    kills = ("M0-W-1320/model",)
    source = "known defect 11"
    field = "model"


class UptimeConstant(HealthField):
    name = "health-uptime-constant"
    about = "uptime_seconds stands still."
    kills = ("M0-W-1320/uptime-seconds",)
    source = "a value computed once"
    field, value = "uptime_seconds", 1


class UptimeText(Defect):
    name = "health-uptime-text"
    about = "uptime_seconds is a text."
    kills = ("M0-W-1320/uptime-seconds",)
    source = "a number formatted for people"

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "uptime_seconds": str(body.get("uptime_seconds"))}


class UptimeMilliseconds(Defect):
    name = "health-uptime-milliseconds"
    about = "uptime_seconds counts milliseconds."
    kills = ("M0-W-1320/uptime-seconds",)
    source = "a wrong unit"

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "uptime_seconds": body["uptime_seconds"] * 1000}


class ResidentText(HealthField):
    name = "health-resident-text"
    about = "resident is the text false."
    kills = ("M0-W-1320/resident",)
    source = "a boolean formatted by hand"
    field, value = "resident", "false"


class VramNegative(HealthField):
    name = "health-vram-negative"
    about = "vram_bytes_used is -1."
    kills = ("M0-W-1320/vram-bytes-used",)
    source = "an unknown value written as a number"
    field, value = "vram_bytes_used", -1


class VramFloat(HealthField):
    name = "health-vram-gigabytes"
    about = "vram_bytes_used is a fraction: gigabytes."
    kills = ("M0-W-1320/vram-bytes-used",)
    source = "a wrong unit"
    field, value = "vram_bytes_used", 1.5


class VocabularyZero(HealthField):
    name = "health-vocabulary-zero"
    about = "vocab_size is 0."
    kills = ("M0-W-1320/vocab-size",)
    source = "a placeholder"
    field, value = "vocab_size", 0


class VocabularyPadded(Defect):
    name = "health-vocabulary-wrong"
    about = "vocab_size is the embedding's width."
    kills = ("M0-W-1364/vocab-size",)
    source = "known defect 37: the first dimension"

    def health(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "vocab_size": 896}


class ContextMissing(HealthField):
    name = "health-without-context-length"
    about = "/health lacks context_length."
    kills = ("M0-W-1320/context-length",)
    source = "known defect 11"
    field = "context_length"


class ContextZero(HealthField):
    name = "health-context-zero"
    about = "context_length is 0."
    kills = ("M0-W-1320/context-length",)
    source = "a placeholder"
    field, value = "context_length", 0


class QuantUnknown(HealthField):
    name = "health-quant-unknown"
    about = "quant_kind is unknown."
    kills = ("M0-W-1320/quant-kind",)
    source = "a placeholder"
    field, value = "quant_kind", "unknown"


class TokenizerOther(HealthField):
    name = "health-tokenizer-bpe"
    about = "tokenizer_kind is bpe, which M0 does not have."
    kills = ("M0-W-1320/tokenizer-kind",)
    source = "the file's own word passed on"
    field, value = "tokenizer_kind", "bpe"


class TokenizerWrong(HealthField):
    name = "health-tokenizer-hf-json"
    about = "tokenizer_kind is hf-json for a vocabulary out of the file."
    kills = ("M0-W-1360/from-metadata",)
    source = "a constant"
    field, value = "tokenizer_kind", "hf-json"


class SmText(HealthField):
    name = "health-sm-text"
    about = "sm is a text."
    kills = ("M0-W-1320/optional-types",)
    source = "the compute capability as people write it"
    field, value = "sm", "8.6"
