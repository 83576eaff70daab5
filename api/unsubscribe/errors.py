"""What can be wrong with a link to unsubscribe."""

from http import HTTPStatus

from api.problems import Problem


class UnsubscribeLinkNotFound(Problem):
    """This is no link to unsubscribe of ours, or not all of it."""

    status = HTTPStatus.NOT_FOUND
    code = "unsubscribe_link_not_found"
    title = "Link not found"
