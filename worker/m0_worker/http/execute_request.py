"""POST /execute's body as a pydantic model: M0-W-1300's fields with the limits of the loaded model."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    InstanceOf,
    TypeAdapter,
    ValidationError,
    WrapValidator,
    create_model,
)
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from m0_worker.generation import Request
from m0_worker.http.limits import MAX_JOB_ID, MAX_PROMPT, MAX_SEED, MAX_STOP, MAX_STOP_TOKENS, MAX_STOPS, Limits
from m0_worker.sampling import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import ValidatorFunctionWrapHandler

# What a JSON Schema cannot say is said by a format of our own: a string's length in tokens.
PROMPT_FORMAT = "m0-prompt"
STOP_FORMAT = "m0-stop-string"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and its tokens: finding out whether it is too long is what makes them."""

    text: str
    tokens: tuple[int, ...]


class ExecuteRequest(BaseModel):
    """A job: what to continue, for how long, and how to sample. Unknown fields are ignored (reading E-UNK)."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    job_id: str = Field(
        min_length=1,
        max_length=MAX_JOB_ID,
        description="Names the job in /cancel and in the log; free once it is over.",
    )
    prompt: InstanceOf[Prompt]
    max_tokens: int
    temperature: float = Field(1.0, ge=0.0, le=2.0, description="0 takes the likeliest token.")
    top_p: float = Field(1.0, ge=0.0, le=1.0, description="Keep the likeliest up to this probability; 1 keeps all.")
    top_k: int
    min_p: float = Field(0.0, ge=0.0, le=1.0, description="Drop what is below this share of the likeliest.")
    repetition_penalty: float = Field(1.0, ge=0.0, le=2.0, description="Above 1, tokens seen are less likely.")
    stop: tuple[str, ...] | None
    seed: int

    def job(self, limits: Limits) -> Request:
        """The request that the generation understands."""
        return Request(
            job_id=self.job_id,
            prompt=self.prompt.text,
            prompt_tokens=self.prompt.tokens,
            max_tokens=self.max_tokens,
            sampling=SamplingParams(
                temperature=self.temperature,
                top_p=self.top_p,
                top_k=self.top_k,
                min_p=self.min_p,
                repetition_penalty=self.repetition_penalty,
                vocab_size=limits.vocab_size if limits.vocab_size < limits.logit_rows else None,
            ),
            stop=self.stop or (),  # reading E-STOP3: null is as good as nothing
            seed=self.seed,
        )


def _tokens(text: str, limit: int, encode: Callable[[str], list[int]]) -> tuple[int, ...]:
    """The tokens of a string.

    Raises:
        PydanticCustomError: more than `limit`, or the vocabulary has no token for a part of it.
    """
    try:
        tokens = encode(text)
    except ValueError as error:
        reason = str(error)
        raise PydanticCustomError("tokenizable", "cannot be tokenized: {reason}", {"reason": reason}) from error
    if len(tokens) > limit:
        raise _too_many(limit, f"has {len(tokens)} tokens, {limit} are allowed")
    return tuple(tokens)


def _too_many(limit: int, told: str) -> PydanticCustomError:
    return PydanticCustomError(f"max_tokens({limit})", "{told}", {"told": told})


def _prompt(limits: Limits) -> Any:
    """The type of `prompt`: a string in the schema, a `Prompt` once it is valid."""

    def check(text: str) -> Prompt:
        tokens = _tokens(text, limits.max_tokens_in, lambda part: limits.encode(part, True))
        if not tokens:  # as with a control character that a byte-level vocabulary left out
            reason = "the vocabulary has no token for any part of it"
            raise PydanticCustomError("tokenizable", "cannot be tokenized: {reason}", {"reason": reason})
        return Prompt(text, tokens)

    string = core_schema.str_schema(strict=True, min_length=1, max_length=MAX_PROMPT)
    return Annotated[
        Prompt, GetPydanticSchema(lambda _type, _handler: core_schema.no_info_after_validator_function(check, string))
    ]


def _stop(limits: Limits) -> Any:
    """The type of `stop`: every bad item is told, even of a list that is too long."""

    def check(text: str) -> str:
        if len(text) > MAX_STOP:
            raise _too_many(MAX_STOP_TOKENS, f"has more than {MAX_STOP_TOKENS} tokens")
        _tokens(text, MAX_STOP_TOKENS, lambda part: limits.encode(part, False))
        return text

    item = Annotated[str, Field(min_length=1, json_schema_extra={"format": STOP_FORMAT}), AfterValidator(check)]
    items = TypeAdapter(list[item], config=ConfigDict(strict=True))

    def count_too(value: object, handler: ValidatorFunctionWrapHandler) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) <= MAX_STOPS:
            return tuple(dict.fromkeys(handler(value)))
        # A list's length is judged before its items, which are to be told as well; of thousands, the first few are.
        counted = {"field_type": "List", "max_length": MAX_STOPS, "actual_length": len(value)}
        errors = [_details("too_long", value, counted)]
        try:
            items.validate_python(value[: MAX_STOPS + 1])
        except ValidationError as error:
            errors.extend(_again(found) for found in error.errors())
        raise ValidationError.from_exception_data("stop", errors)

    return Annotated[list[item], Field(max_length=MAX_STOPS), WrapValidator(count_too)] | None


def _details(kind: Any, value: object, context: dict[str, Any], place: tuple[int | str, ...] = ()) -> InitErrorDetails:
    return InitErrorDetails(type=kind, loc=place, input=value, ctx=context)


def _again(found: Any) -> InitErrorDetails:
    """An error in the form in which it can be raised once more."""
    kind: Any = found["type"]
    if kind not in {"string_type", "string_too_short"}:
        kind = PydanticCustomError(kind, "{told}", {"told": found["msg"]})
    return _details(kind, found["input"], found.get("ctx", {}), found["loc"])


def execute_request(limits: Limits) -> type[ExecuteRequest]:
    """POST /execute's model with the limits of the loaded model and the command line."""
    vocabulary, most = limits.vocab_size, limits.max_tokens_out
    return create_model(
        "ExecuteRequest",
        __base__=ExecuteRequest,
        __doc__=ExecuteRequest.__doc__,
        prompt=(
            _prompt(limits),
            Field(
                description=f"The text to continue: at most {limits.max_tokens_in} tokens of this model.",
                json_schema_extra={"format": PROMPT_FORMAT},
            ),
        ),
        max_tokens=(int, Field(most, ge=1, le=most, description="Tokens to generate at most.")),
        top_k=(int, Field(0, ge=0, le=vocabulary, description="Keep this many of the likeliest tokens; 0 keeps all.")),
        stop=(
            _stop(limits),
            Field(
                None,
                description=f"Strings that end the text before they appear, each at most {MAX_STOP_TOKENS} tokens.",
            ),
        ),
        seed=(
            int,
            Field(
                # Every client can read a number of 53 bits back from `started`.
                default_factory=lambda: secrets.randbits(53),
                ge=0,
                le=MAX_SEED,
                description="The same seed gives the same text. If it is left out one is drawn and told in `started`.",
            ),
        ),
    )
