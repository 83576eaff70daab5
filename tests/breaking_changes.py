"""Finds what in a new OpenAPI document breaks clients that were built for an old one.

The tools for this are written in Go, and neither PyPI nor npm has one from its authors. Ours knows what our document
uses, and takes every change of anything else for a breaking one.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# What only people read.
ANNOTATIONS: Final = frozenset({"title", "description", "deprecated", "example", "examples", "$comment"})
UPPER_BOUNDS: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
LOWER_BOUNDS: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
# Compared member by member, or by choosing among them.
STRUCTURE: Final = frozenset(
    {"$ref", "anyOf", "oneOf", "type", "properties", "required", "items", "additionalProperties", "enum", "const"}
)
# An input may be free of one of these from now on.
CONDITIONS: Final = frozenset({"pattern", "format", "uniqueItems", "multipleOf"})


def find_breaking_changes(old: Json, new: Json) -> list[str]:
    """Return a sentence for each change that a client of the old document would not survive.

    A client survives what it need not know: new operations, new members of answers, optional new input, wider limits.
    It does not survive that something is gone, has another name or type, must be sent, or is refused from now on.
    """
    return list(dict.fromkeys(_Comparison(old, new).find()))


class _Comparison:
    """Walks through two documents side by side."""

    def __init__(self, old: Json, new: Json) -> None:
        self._old = old
        self._new = new
        self._compared: set[tuple[str, str, bool]] = set()

    def find(self) -> Iterator[str]:
        for path, operations in self._old["paths"].items():
            for method in (name for name in METHODS if name in operations):
                where = f"{method.upper()} {path}"
                operation = self._new["paths"].get(path, {}).get(method)
                if operation is None:
                    yield f"{where} is gone."
                else:
                    yield from self._find_in_operation(where, operations[method], operation)

    def _find_in_operation(self, where: str, old: Json, new: Json) -> Iterator[str]:
        for member in ("operationId", "tags"):
            if old.get(member) != new.get(member):
                yield f"{where}: `{member}` changed, from which generated clients take their names."
        now_allowed = new.get("security", self._new.get("security", []))
        for scheme in old.get("security", self._old.get("security", [])):
            if scheme not in now_allowed:
                yield f"{where}: {' and '.join(scheme) or 'no credential'} does not suffice any more."
        yield from self._find_in_parameters(where, old, new)
        yield from self._find_in_body(f"{where}: the body", old.get("requestBody"), new.get("requestBody"))
        yield from self._find_in_responses(where, old["responses"], new["responses"])

    def _find_in_parameters(self, where: str, old: Json, new: Json) -> Iterator[str]:
        before, after = (
            {(parameter["in"], parameter["name"]): parameter for parameter in map(resolve, operation["parameters"])}
            for resolve, operation in (
                (partial(_resolve, self._old), {"parameters": [], **old}),
                (partial(_resolve, self._new), {"parameters": [], **new}),
            )
        )
        for key, parameter in after.items():
            if parameter.get("required") and not before.get(key, {}).get("required"):
                yield f"{where}: the {key[0]} parameter `{key[1]}` is required now."
        for key, parameter in before.items():
            name = f"{where}: the {key[0]} parameter `{key[1]}`"
            if key not in after:
                yield f"{name} is gone."
                continue
            yield from self._find_in_schema(name, parameter["schema"], after[key]["schema"], sent=True)
            if any(parameter.get(member) != after[key].get(member) for member in ("style", "explode", "content")):
                yield f"{name} is written differently."

    def _find_in_body(self, where: str, old: Json | None, new: Json | None) -> Iterator[str]:
        if new and new.get("required") and not (old and old.get("required")):
            yield f"{where} is required now."
        if old and not new:
            yield f"{where} is gone."
        if old and new:
            yield from self._find_in_content(where, old, new, sent=True)

    def _find_in_responses(self, where: str, old: Json, new: Json) -> Iterator[str]:
        for status in new:
            if status.startswith("2") and status not in old:
                yield f"{where} may answer with {status} now."
        for status, response in old.items():
            if status in new:
                before, after = _resolve(self._old, response), _resolve(self._new, new[status])
                yield from self._find_in_content(f"{where}: the answer {status}", before, after, sent=False)
                for header in before.get("headers", {}).keys() - after.get("headers", {}).keys():
                    yield f"{where}: the answer {status} has no header `{header}` any more."
            elif status < "4":
                # An error that cannot happen any more harms nobody.
                yield f"{where} does not answer with {status} any more."

    def _find_in_content(self, where: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            if media_type not in new.get("content", {}):
                yield f"{where} is not {media_type} any more."
            else:
                yield from self._find_in_schema(
                    where, content["schema"], new["content"][media_type]["schema"], sent=sent
                )

    def _find_in_schema(self, where: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
        """Compare what may stand in one place; `sent` says whether by the client or by us.

        Whoever sends decides which of the alternatives it is. The other side has to know each of them.
        """
        possible, known = (old, new) if sent else (new, old)
        for alternative in _alternatives(possible):
            counterparts = [other for other in _alternatives(known) if _kind(other) == _kind(alternative)]
            if not counterparts:
                kind = _kind(alternative)
                yield f"{where} must not be {kind} any more." if sent else f"{where} may be {kind} now."
                continue
            pairs = [(alternative, other) if sent else (other, alternative) for other in counterparts]
            yield from min((list(self._find_in_alternative(where, *pair, sent=sent)) for pair in pairs), key=len)
        if sent and old.get("default") != new.get("default"):
            yield f"{where} is not {old.get('default')!r} any more when it is left out."

    def _find_in_alternative(self, where: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
        if "$ref" in old:
            key = (old["$ref"], new["$ref"], sent)
            if key not in self._compared:
                self._compared.add(key)
                name = old["$ref"].rpartition("/")[2]
                before, after = _resolve(self._old, old), _resolve(self._new, new)
                yield from self._find_in_schema(f"{name} ({'input' if sent else 'output'})", before, after, sent=sent)
        yield from self._find_in_members(where, old, new, sent=sent)
        yield from _find_in_values(where, old, new, sent=sent)
        if sent:
            yield from _find_in_limits(where, old, new)
        elif old.get("format") != new.get("format"):
            yield f"{where} has another format."
        for keyword in (old.keys() | new.keys()) - STRUCTURE - CONDITIONS - UPPER_BOUNDS - LOWER_BOUNDS - ANNOTATIONS:
            if keyword != "default" and not keyword.startswith("x-") and old.get(keyword) != new.get(keyword):
                yield f"{where}: `{keyword}` changed."

    def _find_in_members(self, where: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        must_before, must_after = set(old.get("required", [])), set(new.get("required", []))
        for name in must_after - must_before if sent else (must_before - must_after) & after.keys():
            yield f"{where}: `{name}` {'is required now' if sent else 'may be missing now'}."
        for name, schema in before.items():
            if name not in after:
                yield f"{where}: `{name}` is gone."
            else:
                yield from self._find_in_schema(f"{where}: `{name}`", schema, after[name], sent=sent)
        if "items" in old and "items" in new:
            yield from self._find_in_schema(f"{where}: an item", old["items"], new["items"], sent=sent)
        elif "items" in old or ("items" in new and sent):
            yield f"{where}: its items changed."
        others, others_now = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if isinstance(others, Mapping) and isinstance(others_now, Mapping):
            yield from self._find_in_schema(f"{where}: another member", others, others_now, sent=sent)
        elif others != others_now and (sent and others_now is not True):
            yield f"{where}: other members are refused now."


def _find_in_values(where: str, old: Json, new: Json, *, sent: bool) -> Iterator[str]:
    """Compare closed lists of values: names for one that is gone do not compile, one that is new is not understood."""
    before, after = _values(old), _values(new)
    if before and after:
        for value in before:
            if value not in after:
                yield f"{where}: the value {value!r} is gone."
        for value in after:
            if value not in before and not sent:
                yield f"{where}: the value {value!r} is new."
    elif (after if sent else before) is not None:
        yield f"{where}: {'only some values are accepted now' if sent else 'may have any value now'}."


def _find_in_limits(where: str, old: Json, new: Json) -> Iterator[str]:
    narrower: dict[str, Callable[[Any, Any], bool]] = {
        **dict.fromkeys(UPPER_BOUNDS, lambda before, after: bool(after < before)),
        **dict.fromkeys(LOWER_BOUNDS, lambda before, after: bool(after > before)),
        **dict.fromkeys(CONDITIONS, lambda before, after: bool(after != before)),
    }
    for keyword, is_narrower in narrower.items():
        if new.get(keyword, False) is not False and (keyword not in old or is_narrower(old[keyword], new[keyword])):
            yield f"{where}: `{keyword}` is {new[keyword]!r} now."


def _resolve(document: Json, part: Json) -> Json:
    while "$ref" in part:
        reference: str = part["$ref"]
        part = document
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]
    return part


def _alternatives(schema: Json) -> list[Json]:
    """Return the schemas of which a value meets one; none of them leaves a choice between types or other schemas."""
    choice = schema.get("anyOf", schema.get("oneOf"))
    if choice is not None:
        shared = {keyword: value for keyword, value in schema.items() if keyword not in {"anyOf", "oneOf", "default"}}
        return [alternative for part in choice for alternative in _alternatives({**shared, **part})]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return [schema]


def _kind(schema: Json) -> str:
    """Return by which word alternatives are told apart; the name of a schema is a type of generated clients."""
    name: str = schema.get("$ref", "").rpartition("/")[2] or schema.get("type", "anything")
    return name


def _values(schema: Json) -> list[Any] | None:
    values: list[Any] | None = [schema["const"]] if "const" in schema else schema.get("enum")
    return values
