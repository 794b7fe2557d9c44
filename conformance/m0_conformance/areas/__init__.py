'''The clauses by area: each folder holds demand, check, judge and defects of its clauses.

How to add one:

A check only *drives*: it builds a situation with the fixture `situation` and never looks at the result. A judge only
*judges*: a pure function of the recording, no socket, no clock, no pytest. So every verdict can be recomputed offline.

1. Demand, in `<area>/clauses.toml` (`m0-conformance list 'M0-W-13*'`, `explain ID` show what there is).
2. Drive, in `<area>/checks.py`; label exchanges, for the labels are what the judge reads:

    @requirement("M0-W-1300/prompt-max")
    async def test_prompt_limit(situation: Situation) -> None:
        """Each side of the limit."""
        await situation.execute("at limit", prompt="x" * 32768, max_tokens=1)
        await situation.execute("above limit", prompt="x" * 32769, max_tokens=1)

3. Judge, in `<area>/judge.py` (every area's is loaded by itself):

    @judge("M0-W-1300/prompt-max")
    def prompt_max(recording: Recording) -> Iterator[Finding]:
        """32768 passes validation, 32769 is refused with 400."""
        for label, wanted in (("at limit", 200), ("above limit", 400)):
            for exchange in recording.labelled(label):
                if exchange.status == wanted:
                    yield ok(exchange)
                elif exchange.status is not None:
                    yield fail(exchange, label.replace(" ", "-"), f"a prompt {label} is answered otherwise",
                               expected=f"HTTP {wanted}", actual=describe(exchange))

4. Prove it, in `<area>/defects.py`: a worker that breaks just this clause (see `m0_conformance.saboteur`).
5. Run it: `python -m m0_conformance run --requirement 'M0-W-1300*'` and `selftest --only NAME`.

Driving: `execute` (to its end), `start` (a `LiveStream`: `await live.tokens(3)`, `hang_up`), `get`, `post`, `cancel`,
`send`/`open` with any `Request` (raw bytes, pauses, half close), `launch` (another worker: `values={"port": "80"}`,
None leaves an argument out, `wait="exit"`), `fact`, `sample`, `together`. A result may be used to build the next
request. A lost race: `situation.not_exercised(reason)`. Anything else that a check raises is ERROR, the suite's fault.

Marks: without `@launch` a check runs on the default worker ("script" probe) or the URL, so it may ask for
`situation.prompt("words")` but must not know the answer. `@launch("dice", args=[…])` names a model
(`m0_models.named`) and flags; equal launches share one process. `@alone()`: a process of its own (signals,
shutdown). `@needs("command")`: it calls `situation.launch`. `@needs("cuda")`. skip and xfail are collection errors,
and so is an unknown clause.

Invariants (most of `streaming`, `events`, `refusals` and `health`) see every exchange of all checks: grammar, order,
one terminal, closing, fields, index, UTF-8, codes, no 5xx. Do not repeat them. Timing clauses: collect at least 20
samples and decide with `judging.timing`, which says PASS, FAIL or INCONCLUSIVE.

A judge leans on nothing but `recording` and stays silent where it saw nothing: silence is NOT_TESTED, never PASS.
'''
