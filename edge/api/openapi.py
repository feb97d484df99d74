"""Owns how an API is described: the part of OpenAPI 3.1 that the APIs of Fairlead need."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from edge.api.permission import Open, Permission

Object = dict[str, Any]

JSON: Final[Object] = {"application/json": {"schema": {"type": "object"}}}
PLAIN: Final[Object] = {"text/plain": {"schema": {"type": "string"}}}
_ERROR: Final[Object] = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
}


class Query(NamedTuple):
    """A parameter of the query; `schema` is a JSON Schema."""

    name: str
    meaning: str
    schema: Object
    required: bool = False
    example: str = ""

    def parameter(self) -> Object:
        """Its description, which leaves out what is not said."""
        described = {
            "name": self.name,
            "in": "query",
            "required": self.required,
            "schema": self.schema,
            "description": self.meaning,
            "example": self.example,
        }
        return {key: value for key, value in described.items() if value}


def answer(meaning: str, content: Object = JSON) -> Object:
    """An answer of an operation."""
    return {"description": meaning, "content": content}


def fields_body(fields: Mapping[str, Object], required: Sequence[str] = ()) -> Object:
    """A request body that is a JSON object of these fields, which are JSON Schemas, and no others.

    It may be left out where none of them is required.
    """
    schema: Object = {
        "type": "object",
        "properties": dict(fields),
        "additionalProperties": False,
    }
    if required:
        schema["required"] = list(required)
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What is said of an API as a whole.

    `errors` says what each error status means, `guard_errors` which of them an operation may answer
    because it is not open; `path_schemas` are JSON Schemas of the parameters in its paths.
    """

    title: str
    description: str
    errors: Mapping[int, str]
    guard_errors: Sequence[int]
    path_schemas: Mapping[str, Object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path, as far as it is described, and what it asks of its caller.

    `by_app`: its handler asks of each app whether the caller's grant covers it, so that tokens that
    are limited to apps may come, too. `body` is OpenAPI's request body; `answers` are by status,
    and one 200 of JSON unless told. `errors` are statuses beside those that follow from the rest.
    """

    method: str
    path: str
    summary: str
    description: str = ""
    permission: Permission
    by_app: bool = False
    query: Sequence[Query] = ()
    body: Object | None = None
    answers: Mapping[int, Object] | None = None
    errors: Sequence[int] = ()

    def describe(self, api: Api) -> Object:
        """Its description in OpenAPI."""
        in_path = list(_path_parameters(self.path, api.path_schemas))
        parameters = [*in_path, *(each.parameter() for each in self.query)]
        described: Object = {"summary": self.summary}
        if self.description:
            described["description"] = self.description
        if parameters:
            described["parameters"] = parameters
        is_open = isinstance(self.permission, Open)
        if not is_open:
            described["security"] = [{"token": [self.permission.value]}]
        if self.body is not None:
            described["requestBody"] = self.body
        answers = self.answers or {200: answer(self.summary)}
        implied = (*(() if is_open else api.guard_errors), *((404,) if in_path else ()))
        described["responses"] = {
            **{str(status): answers[status] for status in sorted(answers)},
            **{
                str(status): answer(api.errors[status], _ERROR)
                for status in sorted({*implied, *self.errors})
            },
        }
        return described


def document(api: Api, operations: Iterable[Operation]) -> Object:
    """The whole document, as `/openapi.json` shows it."""
    paths: dict[str, Object] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = operation.describe(api)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": api.title,
            "version": version("fairlead"),
            "description": api.description,
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _path_parameters(path: str, schemas: Mapping[str, Object]) -> Iterator[Object]:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part[1:-1]
            yield {"name": name, "in": "path", "required": True, "schema": schemas[name]}
