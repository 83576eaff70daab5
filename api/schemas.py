"""What all schemas have in common: strict input, complete output, bounded texts."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

# In words of JSON Schema, so that clients can check before they send. A line is text without control
# characters that is more than blanks; a text may have many lines, but not NUL, which PostgreSQL cannot store. Lone
# surrogates are refused by pydantic itself.
A_LINE = r"^[^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$"
A_TEXT = r"^[^\x00]*$"


class Input(BaseModel):
    """What a caller sends. Unknown members are refused: a misspelt one must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class Output(BaseModel):
    """What a caller gets. Every member is always there, null where there is nothing to say."""

    model_config = ConfigDict(from_attributes=True)


def _refuse_repetition(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        code, message = "not_unique", "Items should be unique"
        raise PydanticCustomError(code, message)
    return values


# To be completed by `Field(max_length=...)`.
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=A_LINE)]
Text = Annotated[str, StringConstraints(pattern=A_TEXT)]

# Beside `Field(json_schema_extra={"uniqueItems": True})`, which only documents it.
Unique = AfterValidator(_refuse_repetition)


def _to_integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Last behind a `StrictInt`: what JSON Schema calls an integer, for which 12.0 is one, but neither "12" nor true.
Integral = BeforeValidator(_to_integer)
