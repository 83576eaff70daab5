"""Preferences, as callers write and read them."""

from typing import Annotated

from pydantic import Field, StrictBool

from api.schemas import Input, Output


class PreferencesUpdate(Input):
    """What I want from now on."""

    notify_self: Annotated[StrictBool, Field(description="Whether to be told of my own actions as well.")]


class Preferences(Output):
    """What I want."""

    notify_self: bool = Field(description="Whether I am told of my own actions as well.")
