"""``tidegate schema``: what a policy file may hold, and what goes over the wire."""

import json
from typing import Annotated

import typer

from orchestrator.cli.options import SET_UP
from orchestrator.version import VERSION
from schemas.asyncapi import asyncapi_document
from schemas.policy_schema import policy_json_schema

app = typer.Typer()


@app.command("schema", rich_help_panel=SET_UP)
def schema(
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="The wire contract as AsyncAPI 3.1 with the schema of each message.")
    ] = False,
) -> None:
    """Print the JSON Schema of a policy file, for an editor that checks it while it is written; or the contract."""
    print(json.dumps(asyncapi_document(VERSION) if asyncapi else policy_json_schema(), indent=2))
