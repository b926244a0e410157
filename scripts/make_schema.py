"""Write the JSON schema of option files, from the same types that check them, for editors to complete and check by.

    python scripts/make_schema.py

Each file in `options/` names it in its first line, which the YAML language server reads.
"""

import argparse
import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

import facesr_plugin  # noqa: F401  (first: it makes BasicSR importable)
from facesr_plugin.errors import run_command
from facesr_plugin.options.types import RunOptions
from facesr_plugin.report.machine import ROOT

SCHEMA = ROOT / 'options' / 'schema.json'


class _Untitled(GenerateJsonSchema):
    """Without a title for every field, which would be its key again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def make_schema() -> str:
    """Return the schema as JSON text."""
    schema = {'$schema': 'https://json-schema.org/draft/2020-12/schema'}
    schema |= RunOptions.model_json_schema(schema_generator=_Untitled)
    return json.dumps(schema, indent=2) + '\n'


def main(argv: list[str] | None = None) -> None:
    """Write it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(argv)
    SCHEMA.write_text(make_schema(), encoding='utf-8')
    print(SCHEMA)


if __name__ == '__main__':
    run_command(main)
