"""What travels over the wire, as JSON Schemas, and the strict JSON reader that judges use."""

from m0_conformance.contract.schemas import conforms, has, must_be, required, schema
from m0_conformance.contract.strict_json import ParsedJson, parse_json

__all__ = ["ParsedJson", "conforms", "has", "must_be", "parse_json", "required", "schema"]
