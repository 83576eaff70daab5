"""The endpoints of the delivery log."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Security
from starlette.convertors import StringConvertor, register_url_convertor

from api.api_keys import Program
from api.deliveries import service
from api.deliveries.errors import DeliveryNotFound, DeliveryNotRetryable
from api.deliveries.schemas import (
    Deliveries,
    DeliveryQuery,
    DeliveryRetry,
    DeliveryRetryRequest,
    LoggedDeliveryDetails,
    LoggedDeliveryPage,
)
from api.dependencies import CurrentUser, Work, get_current_program, id_or
from api.idempotency.dependency import ANSWERED_ONCE
from api.json_route import JsonRoute
from api.notifications.errors import NotificationNotFound
from api.pagination import NextLink
from api.problems import problems
from api.scopes import Scope
from shared.settings import ExpirySettings

router = APIRouter(route_class=JsonRoute)

NotificationId = Annotated[UUID, id_or(NotificationNotFound), Path(description="Id of the notification.")]
DeliveryId = Annotated[UUID, id_or(DeliveryNotFound), Path(description="Id of the delivery.")]
Reader = Annotated[Program, Security(get_current_program, scopes=[Scope.DELIVERIES_READ])]
Writer = Annotated[Program, Security(get_current_program, scopes=[Scope.DELIVERIES_WRITE])]


class _DeliveryIdConvertor(StringConvertor):
    """Any last part of a path but the name of the action: GET on that is a 405, not an id that is unknown."""

    regex = "(?!retry$)[^/]+"


register_url_convertor("delivery_id", _DeliveryIdConvertor())


def get_expire_after(request: Request) -> timedelta:
    """Return for how long a delivery is tried."""
    expiry: ExpirySettings = request.app.state.expiry
    return expiry.expire_after


ExpireAfter = Annotated[timedelta, Depends(get_expire_after)]


@router.get(
    "/notifications/{notification_id}/deliveries", tags=["Notifications"], responses=problems(NotificationNotFound)
)
async def list_notification_deliveries(notification_id: NotificationId, work: Work, me: CurrentUser) -> Deliveries:
    """Tell where else one of my notifications went, and what came of it."""
    return await service.list_deliveries_of_notification(work, me, notification_id)


@router.get("/admin/deliveries", tags=["Administration"])
async def list_deliveries(
    query: Annotated[DeliveryQuery, Query()], work: Work, program: Reader, link: NextLink
) -> LoggedDeliveryPage:
    """List the deliveries of the tenant, newest first.

    A page looks at a bounded part of the log: with filters it may have fewer than `limit`, or none, while `has_more`
    says that there is more to look at.
    """
    return link.add_next(await service.list_deliveries(work, program, query))


@router.post("/admin/deliveries/retry", tags=["Administration"], dependencies=[ANSWERED_ONCE])
async def retry_deliveries(
    which: DeliveryRetryRequest, work: Work, program: Writer, expire_after: ExpireAfter
) -> DeliveryRetry:
    """Try deliveries again that failed or were parked.

    As long as `dry_run` is not `false`, it only tells which ones. What was parked may have arrived, and then arrives
    twice.
    """
    return await service.retry_deliveries(work, program, which, expire_after=expire_after)


@router.get(
    "/admin/deliveries/{delivery_id:delivery_id}", tags=["Administration"], responses=problems(DeliveryNotFound)
)
async def get_delivery(delivery_id: DeliveryId, work: Work, program: Reader) -> LoggedDeliveryDetails:
    """Return one delivery of the tenant with every try."""
    return await service.get_delivery(work, program, delivery_id)


@router.post(
    "/admin/deliveries/{delivery_id}/retry",
    tags=["Administration"],
    dependencies=[ANSWERED_ONCE],
    responses=problems(DeliveryNotFound, DeliveryNotRetryable),
)
async def retry_delivery(
    delivery_id: DeliveryId, work: Work, program: Writer, expire_after: ExpireAfter
) -> LoggedDeliveryDetails:
    """Try a delivery again that failed or was parked.

    One that was parked may have arrived, and then arrives twice.
    """
    return await service.retry_delivery(work, program, delivery_id, expire_after=expire_after)
