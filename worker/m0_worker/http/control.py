"""GET /health and /metrics, POST /cancel and /shutdown."""

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask

from m0_worker.http.body import JsonRoute, ObjectRoute
from m0_worker.http.errors import Json
from m0_worker.http.models import Cancelled, CancelRequest, Draining, Health
from m0_worker.http.openapi import ANY_OBJECT, BAD_JSON, BAD_OBJECT
from m0_worker.http.strict_json import parse_object
from m0_worker.service import Service


class _PrometheusText(Response):
    """Prometheus's text format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


def health_router(service: Service) -> APIRouter:
    """The state of the worker."""
    routes = APIRouter()

    @routes.head("/health", summary="The headers of /health", operation_id="health_head")
    @routes.get("/health", response_model=Health, summary="State, model and device", operation_id="health")
    async def health() -> Json:
        """Answers from what is already known: no device call, also while a job runs."""
        return Json(service.health())

    return routes


def metrics_router(service: Service) -> APIRouter:
    """The counters of the worker."""
    routes = APIRouter()

    @routes.head(
        "/metrics", response_class=_PrometheusText, summary="The headers of /metrics", operation_id="metrics_head"
    )
    @routes.get("/metrics", response_class=_PrometheusText, summary="Prometheus metrics", operation_id="metrics")
    async def metrics() -> _PrometheusText:
        """Memory in use, requests by outcome, tokens, durations and uptime."""
        return _PrometheusText(await service.metrics.text())

    return routes


def cancel_router(service: Service) -> APIRouter:
    """The end of a job from outside."""
    routes = APIRouter(route_class=JsonRoute, strict_content_type=False)

    @routes.post(
        "/cancel",
        status_code=202,
        response_model=Cancelled,
        responses=BAD_JSON,
        summary="End a job",
        operation_id="cancel",
    )
    async def cancel(body: CancelRequest) -> Json:
        """End a running or waiting job; its stream gets `error` with CANCELLED. No error if there is no such job."""
        was_active = service.cancel(body.job_id)
        return Json({"job_id": body.job_id, "was_active": was_active}, 202)

    return routes


def shutdown_router(service: Service) -> APIRouter:
    """The end of the worker."""
    routes = APIRouter(route_class=ObjectRoute)

    async def drain() -> None:  # once the answer is sent; in the event loop, where a plain function would get a thread
        service.on_shutdown("POST /shutdown")

    @routes.post(
        "/shutdown",
        status_code=202,
        response_model=Draining,
        responses=BAD_OBJECT,
        openapi_extra={"requestBody": ANY_OBJECT},
        summary="End the worker",
        operation_id="shutdown",
    )
    async def shutdown(request: Request) -> Json:
        """New jobs get 503, waiting ones end with CANCELLED, the running one goes on for up to 25 s; then exit 0.

        Whoever means it says so: a JSON object, `{}`, with its content type.
        """
        parse_object(await request.body())
        return Json({"status": "draining"}, 202, background=BackgroundTask(drain))

    return routes
