"""The health endpoints: without authentication, access log and documentation."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from api.dependencies import get_runtime
from api.health.schemas import Liveness, ReadinessReport
from api.lifespan import Runtime

router = APIRouter(include_in_schema=False)


@router.get("/livez")
async def get_liveness() -> Liveness:
    """Tell that the process answers."""
    return Liveness(status="alive")


@router.get("/readyz")
async def get_readiness(runtime: Annotated[Runtime, Depends(get_runtime)], response: Response) -> ReadinessReport:
    """Tell whether requests should be sent here: 503 while they should not."""
    report = await runtime.readiness.report()
    if not report.is_ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return report
