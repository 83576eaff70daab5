"""How the providers at AWS are called: one try under a deadline, and what its errors mean for a message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from shared.channel import DeliveryFailed, OutcomeUnknown, PermanentFailure, RateLimited, TemporaryFailure
from shared.wording import quote_provider

# Of each client. Who sends takes one of as many slots: a wait for a connection would look like a call without answer.
CONNECTIONS = 50

_THROTTLED = frozenset(
    {
        "LimitExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
# What says something against the message or its address. Everything else is about our account, its rights or its
# set-up, which somebody can repair while the message waits.
_REFUSED = frozenset(
    {
        "BadRequestException",
        "InvalidParameter",
        "InvalidParameterException",
        "InvalidParameterValue",
        "MessageRejected",
        "OptedOut",
        "OptedOutException",
        "ParameterValueInvalid",
        "ValidationError",
        "ValidationException",
    }
)
_NOT_REACHED = (
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)


@asynccontextmanager
async def open_aws_client(
    service: str,
    *,
    region: str,
    endpoint_url: str | None,
    timeout: timedelta,  # noqa: ASYNC109 - not ours to keep here: it is the client's to know
) -> AsyncIterator[Any]:
    """Open a client of a service; opening does not connect yet. AWS's own chain finds the credentials.

    It never tries again by itself: a second try after an unknown outcome may send twice.
    """
    seconds = timeout.total_seconds()
    async with get_session().create_client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        config=AioConfig(
            # Connecting ends well before the deadline of the whole, so that what runs into that one was handed over.
            connect_timeout=seconds / 2,
            read_timeout=seconds,
            max_pool_connections=CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": 1},
        ),
    ) as client:
        yield client


@asynccontextmanager
async def aws_call(
    slots: asyncio.Semaphore,
    *,
    timeout: timedelta,  # noqa: ASYNC109 - that is its job
    secret: str,
) -> AsyncIterator[None]:
    """Make one call that sends a message, under a total deadline; raise its errors as failures of the delivery.

    Args:
        slots: As many as the client has connections.
        timeout: The deadline, the wait for a slot included.
        secret: What no failure may repeat: the address.
    """
    is_under_way = False
    try:
        async with asyncio.timeout(timeout.total_seconds()), slots:
            is_under_way = True
            yield
    except TimeoutError as error:
        if not is_under_way:
            message = "All connections to AWS are busy."
            raise TemporaryFailure(message) from error
        message = f"AWS did not answer within {timeout.total_seconds():g} s."
        raise OutcomeUnknown(message) from error
    except ClientError as error:
        raise _translate(error, secret) from error
    except _NOT_REACHED as error:
        message = f"AWS could not be called: {type(error).__name__}"
        raise TemporaryFailure(message) from error
    except ParamValidationError as error:
        message = "The message has not the form that AWS wants."
        raise PermanentFailure(message) from error
    except (BotocoreConnectionError, HTTPClientError) as error:
        message = f"AWS did not answer: {type(error).__name__}"
        raise OutcomeUnknown(message) from error
    except KeyError as error:
        # Botocore takes whatever comes with status 200 for an answer, even the page of some proxy.
        message = "What answered is not AWS."
        raise OutcomeUnknown(message) from error


def _translate(error: ClientError, secret: str) -> DeliveryFailed:
    code = error.response["Error"].get("Code", "").rpartition(".")[2]
    said = error.response["Error"].get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    detail = quote_provider(f"AWS answered {status}, {code}: {said}", secret)
    if code in _THROTTLED or status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(detail)
    if code in _REFUSED and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return PermanentFailure(detail, address_gone=_is_about_the_number(said))
    return TemporaryFailure(detail)


def _is_about_the_number(said: str) -> bool:
    """Return whether SNS refused the phone number, or its owner refuses messages: it has no codes for that."""
    words = said.lower().replace(" ", "")
    return "phonenumber" in words or "optedout" in words
