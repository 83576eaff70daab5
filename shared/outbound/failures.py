"""What the errors of the HTTP client mean for a delivery."""

import os

import aiohttp

from shared.channel import DeliveryFailed, OutcomeUnknown, PermanentFailure, TemporaryFailure
from shared.outbound.connections import AddressRefused


def describe_failure(error: Exception, *, was_written: bool) -> DeliveryFailed:
    """Return the failure that an error of the client stands for. Its text has nothing of the URL.

    Args:
        error: What the client raised.
        was_written: Whether the whole request was handed over, so that it may have been taken.
    """
    if isinstance(error, aiohttp.InvalidURL):
        return PermanentFailure("the address is no URL that can be called")
    if isinstance(error, aiohttp.ClientConnectorError):
        return _describe_connection(error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TemporaryFailure("no connection came about in time")
    if not was_written:
        return TemporaryFailure("the request could not be sent, or not in time")
    return _describe_silence(error)


def _describe_connection(error: aiohttp.ClientConnectorError) -> DeliveryFailed:
    match error:
        case aiohttp.ClientConnectorError(os_error=AddressRefused()):
            return PermanentFailure("nothing is sent to this address: it is internal, or not https")
        case aiohttp.ClientConnectorDNSError():
            return TemporaryFailure("the host could not be looked up")
        case aiohttp.ClientConnectorCertificateError():
            reason = getattr(error.certificate_error, "verify_message", "for reasons unknown")
            return TemporaryFailure(f"the certificate is not valid: {reason}")
        case aiohttp.ClientConnectorSSLError():
            return TemporaryFailure("no TLS connection came about")
    number = error.os_error.errno
    return TemporaryFailure(f"no connection came about: {os.strerror(number) if number else 'for reasons unknown'}")


def _describe_silence(error: Exception) -> DeliveryFailed:
    if isinstance(error, TimeoutError):
        return OutcomeUnknown("no answer came in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return OutcomeUnknown("the answer was no HTTP that can be read")
    return OutcomeUnknown("the connection ended before an answer came")
