"""Proves how a declaration becomes a description."""

from typing import Any

from edge.api.openapi import PLAIN, Api, Operation, Query, answer, document, fields_body
from edge.api.permission import Open, Scope

API = Api(
    title="Ships",
    description="All of them.",
    errors={401: "Who are you?", 404: "No such ship.", 409: "It has sailed."},
    guard_errors=(401,),
    path_schemas={"name": {"type": "string"}},
)
SUMMARY = "Show a ship."


def statuses(**declared: Any) -> list[str]:
    operation = Operation(method="GET", summary=SUMMARY, permission=Scope.READ, **declared)
    return list(operation.describe(API)["responses"])


class TestOperation:
    def test_an_open_one_says_what_it_answers_and_no_more(self) -> None:
        operation = Operation(
            method="GET", path="/ships", summary=SUMMARY, permission=Open.EVERYBODY
        )
        assert operation.describe(API) == {
            "summary": SUMMARY,
            "responses": {"200": answer(SUMMARY)},
        }

    def test_one_that_is_not_open_takes_the_token(self) -> None:
        described = Operation(
            method="GET", path="/ships", summary=SUMMARY, permission=Scope.METRICS
        ).describe(API)
        assert described["security"] == [{"token": ["metrics"]}]
        assert described["responses"]["401"]["description"] == "Who are you?"

    def test_what_its_path_names_is_a_parameter_that_may_not_be_found(self) -> None:
        described = Operation(
            method="GET", path="/ships/{name}/log", summary=SUMMARY, permission=Open.EVERYBODY
        ).describe(API)
        assert described["parameters"] == [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
        assert described["responses"]["404"]["description"] == "No such ship."

    def test_errors_come_after_the_answers_each_once_and_in_order(self) -> None:
        answers = {202: answer("Sailing."), 200: answer("Sailed.", PLAIN)}
        found = statuses(path="/ships/{name}", answers=answers, errors=(409, 404))
        assert found == ["200", "202", "401", "404", "409"]

    def test_it_has_what_its_body_is(self) -> None:
        body = fields_body({"name": {"type": "string"}}, required=["name"])
        described = Operation(
            method="POST",
            path="/ships",
            summary=SUMMARY,
            permission=Scope.WRITE,
            description="At once.",
            body=body,
        ).describe(API)
        assert described["requestBody"] == body
        assert described["description"] == "At once."


class TestQuery:
    def test_what_is_not_said_is_left_out(self) -> None:
        schema = {"type": "string"}
        plain = Query("flag", "Under which flag.", schema)
        assert plain.parameter() == {
            "name": "flag",
            "in": "query",
            "schema": schema,
            "description": "Under which flag.",
        }
        required = Query("flag", "", schema, required=True, example="se")
        assert required.parameter() == {
            "name": "flag",
            "in": "query",
            "required": True,
            "schema": schema,
            "example": "se",
        }


class TestFieldsBody:
    def test_it_may_be_left_out_unless_it_must_have_a_field(self) -> None:
        properties = {"name": {"type": "string"}}
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        assert fields_body(properties) == {
            "required": False,
            "content": {"application/json": {"schema": schema}},
        }
        assert fields_body(properties, ["name"]) == {
            "required": True,
            "content": {"application/json": {"schema": {**schema, "required": ["name"]}}},
        }


class TestDocument:
    def test_the_methods_of_a_path_are_together(self) -> None:
        operations = [
            Operation(method="GET", path="/ships", summary=SUMMARY, permission=Scope.READ),
            Operation(method="GET", path="/ships/{name}", summary=SUMMARY, permission=Scope.READ),
            Operation(
                method="POST", path="/ships", summary="Build a ship.", permission=Scope.WRITE
            ),
        ]
        whole = document(API, operations)
        assert (whole["info"]["title"], whole["info"]["description"]) == ("Ships", "All of them.")
        assert {path: list(methods) for path, methods in whole["paths"].items()} == {
            "/ships": ["get", "post"],
            "/ships/{name}": ["get"],
        }
        assert whole["paths"]["/ships"]["post"] == operations[2].describe(API)
