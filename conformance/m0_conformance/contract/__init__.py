"""What travels over the wire, as JSON Schemas, and the strict JSON reader that judges use."""

from m0_conformance.contract.schemas import schema, schema_errors
from m0_conformance.contract.strict_json import ParsedJson, parse_json

__all__ = ["ParsedJson", "parse_json", "schema", "schema_errors"]
