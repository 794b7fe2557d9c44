"""POST /execute: from a body to an event stream."""

# FastAPI reads the types of an endpoint when it is defined: the body's is made for the loaded model.

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.exceptions import RequestValidationError

from m0_worker.errors import Code
from m0_worker.http.body import JsonRoute
from m0_worker.http.correlation import correlation_id
from m0_worker.http.deadline import deadline_remaining
from m0_worker.http.errors import HttpError
from m0_worker.http.execute_request import ExecuteRequest, execute_request
from m0_worker.http.job_stream import JobStream
from m0_worker.http.openapi import BAD_JSON, BUSY, EVENT_STREAM
from m0_worker.jobs import DuplicateJobError, Job, Refused
from m0_worker.service import Service


class _CountedRoute(JsonRoute):
    """Counts the requests that never become a job."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def counted(request: Request) -> Response:
            try:
                return await handler(request)
            except (HttpError, RequestValidationError):
                request.app.state.service.metrics.rejected()
                raise

        return counted


def _admit(service: Service, body: ExecuteRequest, correlation: str) -> Job:
    """The job that a body asks for, in its place at the turnstile.

    Raises:
        HttpError: 400 for the ID of an active job, 503 while the line is full or the worker shuts down.
    """
    job = Job(body.job(service.limits), correlation)
    try:
        service.turnstile.admit(job)
    except DuplicateJobError as error:
        raise HttpError.of_field(400, "job_id", "unique", str(error)) from error
    except Refused as error:
        # No stable code says "busy"; of the eight, INTERNAL with retriable is the one that promises nothing false.
        retry = {"retry-after": "1"}
        raise HttpError(503, str(error), code=Code.INTERNAL, retriable=True, headers=retry) from error
    return job


def router(service: Service) -> APIRouter:
    """The route, its body's limits being those of the loaded model."""
    routes = APIRouter(route_class=_CountedRoute, strict_content_type=False)
    limited = execute_request(service.limits)

    @routes.post(
        "/execute",
        response_class=JobStream,
        responses={200: EVENT_STREAM, **BAD_JSON, 503: BUSY},
        summary="Run a job",
        operation_id="execute",
    )
    async def execute(
        request: Request,
        body: limited,  # type: ignore[valid-type]  # made for the loaded model
        x_deadline: Annotated[
            str | None, Header(description="Unix time (s or ms) or ISO 8601; logged and counted, never enforced.")
        ] = None,
    ) -> JobStream:
        """Generate text and stream it: `started`, one `token` event a token, then `end` or `error`.

        One job runs at a time; others wait in arrival order. The stream ends when the client goes away.
        """
        job = _admit(service, body, correlation_id(request.scope))
        remaining = deadline_remaining(x_deadline)
        if remaining is not None:
            service.metrics.deadline(remaining)
        return JobStream(service, job, remaining)

    return routes
