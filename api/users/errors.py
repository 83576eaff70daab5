"""What can be wrong with a request about users."""

from http import HTTPStatus

from api.problems import Problem


class UserNotFound(Problem):
    """No user can have this external id: it is a line of 1 to 255 characters."""

    status = HTTPStatus.NOT_FOUND
    code = "user_not_found"
    title = "User not found"
