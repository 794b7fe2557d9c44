"""The routes, as one ASGI application.

Plain ASGI and no web framework: the routes are five, validation is M0-W-1300's own, a token costs one call of `send`,
and importing FastAPI would more than double the time a worker takes to get ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from m0_worker.errors import Code
from m0_worker.http.exchange import ClientGoneError, Exchange, HttpError
from m0_worker.http.execute import execute
from m0_worker.http.schema import parse_cancel
from m0_worker.http.strict_json import check_content_type, parse_object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from m0_worker.service import Service

_PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class App:
    """The worker's HTTP surface: POST /execute, /cancel, /shutdown; GET /health, /metrics."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes: dict[str, dict[str, Callable[[Exchange], Awaitable[None]]]] = {
            "/execute": {"POST": self._execute},
            "/health": {"GET": self._health},
            "/cancel": {"POST": self._cancel},
            "/shutdown": {"POST": self._shutdown},
            "/metrics": {"GET": self._metrics},
        }

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request; whatever goes wrong, the answer is JSON."""
        exchange = Exchange(scope, receive, send)
        try:
            await self._handler(exchange)(exchange)
        except HttpError as error:
            await exchange.refuse(error)
        except ClientGoneError:
            pass
        except Exception as error:
            self._service.narrator.event(
                "error", "ERROR", code=Code.INTERNAL.name, message=f"unexpected {type(error).__name__} in HTTP"
            )
            if exchange.answered:
                raise  # the server closes the connection: nothing true can be added to the response
            await exchange.refuse(HttpError(500, "the worker failed unexpectedly", code=Code.INTERNAL, retriable=True))

    def _handler(self, exchange: Exchange) -> Callable[[Exchange], Awaitable[None]]:
        methods = self._routes.get(exchange.path)
        if methods is None:
            known = ", ".join(self._routes)
            raise HttpError(404, f"no such path; there are {known}")
        handler = methods.get("GET" if exchange.method == "HEAD" else exchange.method)
        if handler is None:
            allowed = ", ".join((*methods, "HEAD") if "GET" in methods else methods)
            raise HttpError(
                405, f"this path takes {allowed}, not {exchange.method}", headers=[(b"allow", allowed.encode())]
            )
        return handler

    async def _execute(self, exchange: Exchange) -> None:
        await execute(self._service, exchange)

    async def _health(self, exchange: Exchange) -> None:
        await exchange.json(200, self._service.health())

    async def _metrics(self, exchange: Exchange) -> None:
        await exchange.answer(200, self._service.metrics.text(), _PROMETHEUS_TEXT)

    async def _cancel(self, exchange: Exchange) -> None:
        body = await exchange.body()
        check_content_type(exchange.headers.get(b"content-type"))
        job_id = parse_cancel(parse_object(body))
        was_active = self._service.cancel(job_id)
        await exchange.json(202, {"job_id": job_id, "was_active": was_active})

    async def _shutdown(self, exchange: Exchange) -> None:
        body = await exchange.body()
        if body.strip():
            parse_object(body)
        await exchange.json(202, {"status": "draining"})
        self._service.on_shutdown("POST /shutdown")
