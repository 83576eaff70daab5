"""What can be done with preferences, which are columns of the user."""

from api.preferences.schemas import Preferences, PreferencesUpdate
from shared.models import User


def get_preferences(me: User) -> Preferences:
    """Return my preferences."""
    return Preferences.model_validate(me)


def update_preferences(me: User, update: PreferencesUpdate) -> Preferences:
    """Change my preferences."""
    me.notify_self = update.notify_self
    return Preferences.model_validate(me)
