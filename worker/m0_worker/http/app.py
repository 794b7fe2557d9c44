"""The FastAPI application: routers, errors in M0's form, and what holds for every answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as RoutingError

from m0_worker.errors import Code
from m0_worker.http import docs
from m0_worker.http.body import BodyBudget, JsonRoute
from m0_worker.http.control import cancel_router, health_router, metrics_router, shutdown_router
from m0_worker.http.correlation import Sending, assign
from m0_worker.http.errors import ClientGoneError, HttpError
from m0_worker.http.execute import router as execute_router
from m0_worker.http.openapi import DESCRIPTION, VERSION, told_truly
from m0_worker.http.validation import invalid_body

if TYPE_CHECKING:
    from fastapi import APIRouter, Request
    from fastapi.telemetry import TelemetryConfig
    from pydantic import BaseModel
    from starlette.types import Receive, Scope, Send

    from m0_worker.http.callers import Callers
    from m0_worker.service import Service

# On by default, and it sees bodies: M0-W-1902 lets no prompt out. Said switch by switch, so that no environment
# variable and no provider that somebody else installed in the process turns one on; `exclude` holds for future ones.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
    "exclude": lambda _scope: True,
}


class Application(FastAPI):
    """The worker's HTTP surface: POST /execute, /cancel, /shutdown; GET /health, /metrics, /docs, /openapi.json."""

    def __init__(self, service: Service, callers: Callers) -> None:
        super().__init__(
            title="M0 worker",
            version="M0",
            description=DESCRIPTION,
            openapi_url=None,  # the routes are ours: FastAPI's pages load scripts from another host
            redirect_slashes=False,
            telemetry=NO_TELEMETRY,
            exception_handlers={
                RoutingError: self._on_http_error,
                RequestValidationError: self._on_invalid,
                Exception: self._on_unexpected,
            },
        )
        self.state.service = service
        self.state.bodies = BodyBudget()
        self._callers = callers
        self.openapi_version = VERSION
        self._methods: dict[str, list[str]] = {}
        self._taken: list[type[BaseModel]] = []
        for routes in (
            execute_router(service),
            health_router(service),
            cancel_router(service),
            shutdown_router(service),
            metrics_router(service),
            docs.router(self.openapi),
        ):
            self._include(routes)

    def _include(self, routes: APIRouter) -> None:
        self.include_router(routes)
        for route in routes.routes:
            if isinstance(route, APIRoute):
                self._methods.setdefault(route.path, []).extend(sorted(route.methods or ()))
            if isinstance(route, JsonRoute):
                self._taken.append(route.body_model)

    def openapi(self) -> dict[str, Any]:
        """The description of the worker, made at the first call."""
        if self.openapi_schema is None:
            self.openapi_schema = told_truly(super().openapi(), self._taken)
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; whatever goes wrong, the answer is JSON and carries the request's ID."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        sending = Sending(send, assign(scope))
        try:
            refusal = self._callers.refusal(scope)
            if refusal is not None:
                await refusal.response()(scope, receive, sending)
            elif scope["path"] in self._methods:
                await super().__call__(scope, receive, sending)
            else:  # asked here, for the router takes /health with a line end for /health
                told = f"no such path; there are {', '.join(self._methods)}"
                await HttpError(404, told).response()(scope, receive, sending)
        except Exception as error:
            self.state.service.narrator.event(
                "error", "ERROR", code=Code.INTERNAL.name, message=f"unexpected {type(error).__name__} in HTTP"
            )
            if not sending.complete:
                raise  # the server closes the connection: nothing true can be added to the response

    async def _on_http_error(self, request: Request, error: RoutingError) -> Response:
        """M0's form for our own errors and the router's.

        Raises:
            Exception: what FastAPI makes of an unexpected failure in reading a body, which is no fault of the client.
        """
        if isinstance(error, ClientGoneError):
            return Response(status_code=error.status_code)  # that nobody reads
        if isinstance(error, HttpError):
            return error.response()
        if error.status_code == 405:
            allowed = ", ".join(self._methods[request.scope["path"]])
            told = f"this path takes {allowed}, not {request.method}"
            return HttpError(405, told, headers={"allow": allowed}).response()
        raise error.__cause__ or error

    async def _on_invalid(self, request: Request, error: RequestValidationError) -> Response:
        """Everything that pydantic found wrong with a body."""
        route = request.scope["route"]
        if not isinstance(route, JsonRoute):
            raise error  # no other route has anything to validate
        return invalid_body(error.errors(), route.body_model).response()

    async def _on_unexpected(self, _request: Request, _error: Exception) -> Response:
        """What is left; narrated once the answer is sent."""
        return HttpError(500, "the worker failed unexpectedly", code=Code.INTERNAL, retriable=True).response()
