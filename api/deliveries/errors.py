"""What can be wrong with a request about deliveries."""

from http import HTTPStatus

from api.problems import Problem


class DeliveryNotFound(Problem):
    """No delivery of your tenant has this id."""

    status = HTTPStatus.NOT_FOUND
    code = "delivery_not_found"
    title = "Delivery not found"


class DeliveryNotRetryable(Problem):
    """Only what failed or was parked can be tried again; this delivery is pending, arrived, or went nowhere."""

    status = HTTPStatus.CONFLICT
    code = "delivery_not_retryable"
    title = "Delivery cannot be tried again"
