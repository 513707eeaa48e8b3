"""The HTTP service: features and values by id, and predictions for rows of the request."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from clv_pipeline.serving import requests as asked
from clv_pipeline.serving.current import CurrentVersion, NothingPublishedError, Served
from clv_pipeline.serving.fresh import FreshFeaturesError
from clv_pipeline.serving.metrics import Measured, Metrics
from clv_pipeline.serving.online import OnlineStoreError, Record, Version
from clv_pipeline.settings import Settings, load_settings

WARM_SECONDS = 1.0
_LOG = logging.getLogger(__name__)
_OF_HORIZON = re.compile(r"(clv|probability_purchase|expected_orders)_(\d+)d(?:_(.+))?")
_NAMES = {"clv": "value", "probability_purchase": "probability", "expected_orders": "orders"}
_REASON = re.compile(r"reason_(\d+)(_effect)?")
_DESCRIPTION = (
    "What each customer is worth from here on. Every answer is of one publication and names its "
    "run_id. Ids with a slash are looked up by POST /customers/batch."
)


def create_app_of_project() -> FastAPI:
    """Make the service of the project that the environment names, for servers with workers."""
    return create_app(load_settings())


def create_app(settings: Settings) -> FastAPI:
    """Make the service of a project."""
    current = CurrentVersion(settings)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_keep_warm(current, metrics))
        try:
            yield
        finally:
            task.cancel()

    app = FastAPI(
        title="clv", description=_DESCRIPTION, lifespan=lifespan, version=_package_version()
    )
    app.add_middleware(Measured, metrics=metrics)
    _add_errors(app)
    _add_state(app, current, metrics)
    _add_lookups(app, current, is_local=settings.serving.online_store == "sqlite")
    _add_predict(app, current)
    return app


def _add_state(app: FastAPI, current: CurrentVersion, metrics: Metrics) -> None:
    @app.get("/health", summary="Whether the server runs")
    async def health() -> Response:
        return _answer({"status": "ok"})

    @app.get(
        "/ready",
        summary="Whether something is published",
        response_model=asked.Publication,
        responses={503: {"model": asked.Problem}},
    )
    async def ready() -> Response:
        served = await run_in_threadpool(current.get)
        return _answer(_publication(served.version) | {"can_predict": served.can_predict})

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def prometheus() -> Response:
        return Response(metrics.render(), media_type=metrics.content_type)


def _add_lookups(app: FastAPI, current: CurrentVersion, *, is_local: bool) -> None:
    problems: dict[int | str, dict[str, Any]] = {
        404: {"model": asked.Problem},
        503: {"model": asked.Problem},
    }

    def find(ids: Sequence[str]) -> tuple[Served, dict[str, Record]]:
        # One version answers from the first id to the last.
        served = current.get()
        return served, served.store.read(ids)

    async def look_up(ids: Sequence[str]) -> tuple[Served, dict[str, Record]]:
        # A local file answers sooner than a thread starts; a network may not.
        return find(ids) if is_local else await run_in_threadpool(find, ids)

    @app.get(
        "/customers/{customer_id}",
        summary="The latest value of a customer",
        response_model=asked.CustomerValue,
        responses=problems,
    )
    async def value(customer_id: str) -> Response:
        served, found = await look_up([customer_id])
        if customer_id not in found:
            return _unknown(served, customer_id)
        return _answer(_publication(served.version) | _value(found[customer_id]), served)

    @app.get(
        "/customers/{customer_id}/features",
        summary="The features of a customer",
        response_model=asked.CustomerFeatures,
        responses=problems,
    )
    async def features(customer_id: str) -> Response:
        served, found = await look_up([customer_id])
        if customer_id not in found:
            return _unknown(served, customer_id)
        body = {"customer_id": customer_id, "features": _features(found[customer_id])}
        return _answer(_publication(served.version) | body, served)

    @app.post(
        "/customers/batch",
        summary="Features and latest values of several customers",
        response_model=asked.BatchAnswer,
        responses={422: {"model": asked.BadRequest}, 503: {"model": asked.Problem}},
    )
    async def batch(body: asked.BatchRequest) -> Response:
        ids = list(dict.fromkeys(body.ids))
        served, found = await look_up(ids)
        customers = [
            _value(found[name]) | {"features": _features(found[name])}
            for name in ids
            if name in found
        ]
        unknown = [name for name in ids if name not in found]
        answer = {"customers": customers, "unknown": unknown}
        return _answer(_publication(served.version) | answer, served)


def _add_predict(app: FastAPI, current: CurrentVersion) -> None:
    def predict_now(body: asked.PredictRequest) -> Response:
        served = current.get()
        known = body.customer_id is not None and bool(served.store.read([body.customer_id]))
        try:
            predictor = served.predictor()
            found = predictor.predict(body.account, body.as_of, body.tables(), is_known=known)
        except FreshFeaturesError:
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "clv_pipeline":
                raise
            # A model that is damaged or lacks a horizon; looking up goes on.
            return _answer({"detail": str(error)}, served, status=503)
        answer = asdict(found) | {
            "customer_id": body.customer_id,
            "as_of": body.as_of.isoformat(),
            "features": {k: v for k, v in found.features.items() if k != "customer_id"},
        }
        return _answer(_publication(served.version) | answer, served)

    @app.post(
        "/predict",
        summary="Value, interval, probability and reasons for rows of the request",
        response_model=asked.PredictAnswer,
        responses={422: {"model": asked.BadRequest}, 503: {"model": asked.Problem}},
    )
    async def predict(body: asked.PredictRequest) -> Response:
        return await run_in_threadpool(predict_now, body)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def bad_body(_: Request, error: RequestValidationError) -> Response:
        # What was sent is not repeated: it may be personal.
        problems = [
            {"field": ".".join(map(str, p["loc"][1:])) or str(p["loc"][0]), "message": p["msg"]}
            for p in error.errors()
        ]
        return _answer({"detail": problems}, status=422)

    @app.exception_handler(FreshFeaturesError)
    async def bad_rows(_: Request, error: FreshFeaturesError) -> Response:
        field = ".".join(map(str, error.field))
        return _answer({"detail": [{"field": field, "message": str(error)}]}, status=422)

    async def not_ready(_: Request, error: Exception) -> Response:
        return _answer({"detail": str(error)}, status=503)

    for kind in (NothingPublishedError, OnlineStoreError):
        app.add_exception_handler(kind, not_ready)


async def _keep_warm(current: CurrentVersion, metrics: Metrics) -> None:
    """Load the model of each new publication before somebody waits for it."""

    def warm() -> None:
        served = current.get()
        metrics.describe(served.version)
        served.predictor()

    said = ""
    while True:
        try:
            await run_in_threadpool(warm)
        except NothingPublishedError:
            pass
        except Exception as error:  # a request says it again; looking up needs no model
            if str(error) != said:
                _LOG.warning("Not ready to predict: %s", error)
            said = str(error)
        await asyncio.sleep(WARM_SECONDS)


def _publication(version: Version) -> dict[str, Any]:
    found = asdict(version)
    del found["name"]
    return found


def _value(record: Record) -> dict[str, Any]:
    """Arrange a row of customer_clv: a list of horizons, a list of reasons, the rest by name."""
    horizons: dict[int, dict[str, Any]] = {}
    reasons: dict[int, dict[str, Any]] = {}
    rest: dict[str, Any] = {}
    for name, value in record.values.items():
        if match := _OF_HORIZON.fullmatch(name):
            measure, days, bound = match.groups()
            row = horizons.setdefault(int(days), {"horizon_days": int(days)})
            row[bound or _NAMES[measure]] = value
        elif match := _REASON.fullmatch(name):
            row = reasons.setdefault(int(match[1]), {})
            row["effect" if match[2] else "reason"] = value
        elif name not in ("run_id", "cutoff_date", "model_version"):
            rest[name] = value
    return rest | {
        "values": [horizons[days] for days in sorted(horizons)],
        "reasons": [reasons[k] for k in sorted(reasons) if reasons[k].get("reason") is not None],
    }


def _features(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.features.items() if name != "customer_id"}


def _unknown(served: Served, customer_id: str) -> Response:
    name = customer_id if len(customer_id) <= 100 else customer_id[:100] + "..."
    detail = f"There is no customer '{name}' as of {served.version.cutoff_date}."
    return _answer({"detail": detail, "run_id": served.version.run_id}, served, status=404)


def _answer(body: dict[str, Any], served: Served | None = None, status: int = 200) -> Response:
    headers = None if served is None else {"X-Run-Id": served.version.run_id}
    content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(content, status, headers, "application/json")


def _package_version() -> str:
    from importlib.metadata import version

    return version("clv-pipeline")
