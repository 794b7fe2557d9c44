"""Defects of one function: the function is the lie, its name the defect's, its docstring what such a worker does.

    @on_event("M0-W-1312/token-index", source="UTF-8 buffering that counts swallowed tokens")
    def index_gap(event: Event) -> list[Event]:
        "i skips a number after the third token."
        ...

is the defect "index-gap". The function takes those of its hook's arguments that it names (see `Defect`). What needs
state, or two hooks, is a class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

from m0_conformance.saboteur.defect import Defect
from m0_conformance.saboteur.lies import Hole, Rewrites, TooStrict
from m0_conformance.saboteur.narration import Narration

Declare: TypeAlias = Callable[..., Callable[[Callable[..., Any]], type[Defect]]]


def lie(hook: str, of: type[Defect] = Defect) -> Declare:
    """A decorator for functions that stand for one hook of `of`."""
    template = getattr(of, hook)
    offered = [name for name in inspect.signature(template).parameters if name != "self"]

    def declare(*kills: str, **attributes: Any) -> Callable[[Callable[..., Any]], type[Defect]]:
        """Clauses that must turn red; source, collateral, watch and whatever else `of` has as attributes."""
        unknown = sorted(name for name in attributes if not hasattr(of, name))
        if unknown:
            raise TypeError(f"{of.__name__} has no {', '.join(unknown)}")

        def make(function: Callable[..., Any]) -> type[Defect]:
            wanted = list(inspect.signature(function).parameters)
            if not set(wanted) <= set(offered):
                raise TypeError(f"{function.__name__}: {hook} offers {', '.join(offered)}, not {', '.join(wanted)}")

            def call(*arguments: Any, **named: Any) -> Any:
                given = dict(zip(offered, arguments, strict=False)) | named
                return function(*(given[name] for name in wanted))

            async def wait(*arguments: Any, **named: Any) -> Any:
                result = call(*arguments, **named)
                return await result if inspect.isawaitable(result) else result

            chosen = wait if inspect.iscoroutinefunction(template) else call
            own = {
                "name": function.__name__.replace("_", "-"),
                "about": " ".join((function.__doc__ or "").split()),
                "kills": kills,
                hook: staticmethod(chosen),
            }
            return type(function.__name__, (of,), {"__module__": function.__module__, **attributes, **own})

        return make

    return declare


on_arguments = lie("arguments")
on_request = lie("request")
on_answer = lie("answer")
on_health = lie("health")
on_head = lie("stream_head")
on_events = lie("events")
on_event = lie("event")
on_bytes = lie("encode")
on_log_line = lie("line")
on_log_event = lie("narrate", Narration)
rewrites = lie("rewrite", Rewrites)
hole = lie("illegal", Hole)
too_strict = lie("refused", TooStrict)
