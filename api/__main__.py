"""Starts the server: `python -m api`."""

import sys

from api.server import AddressUnavailable, Server, bind
from api.settings import Settings
from shared.logging import configure_logging
from shared.settings import SettingsInvalid


def main() -> None:
    """Read the settings and serve until a signal comes."""
    try:
        settings = Settings.from_environment()
        listener = bind(settings.api)
    except (SettingsInvalid, AddressUnavailable) as error:
        sys.exit(str(error))
    configure_logging(settings.log)
    Server(settings).run([listener])


if __name__ == "__main__":
    main()
