"""Judges: pure functions from what was recorded to findings. No input or output, no pytest, no clock.

Two kinds, both registered by the clause they judge:

`@judge("M0-W-1300/prompt-max")` reads the whole `Recording` of every check that names this clause::

    @judge("M0-W-1300/prompt-max")
    def prompt_max(recording: Recording) -> Iterator[Finding]:
        for exchange in recording.labelled("32769 characters"):
            if exchange.status == 400:
                yield ok(exchange)
            else:
                yield fail(exchange, "prompt-above-limit-accepted", "32,769 characters were not refused",
                           expected="HTTP 400", actual=describe(exchange))

`@invariant("M0-W-1311/one-terminal")` runs on every /execute stream of *every* recording, whatever the check was for;
with `on="exchange"` on every HTTP exchange, with `on="launch"` on every worker process, with `on="recording"` on
every recording::

    @invariant("M0-W-1311/one-terminal")
    def one_terminal(stream: Stream) -> Iterator[Finding]: ...

A judge that saw nothing to judge yields nothing. It yields `ok` for each observation that kept the clause, `fail` for
each that broke it, `unsure` where the observation decides nothing (too few samples), `not_applicable` where the
clause does not bind this target, `note` for a reading observed.
`key` is a fingerprint: short, stable, without numbers or text from the target.
"""
