"""The results of a run as lines of text, as JSON, as one HTML page of all rows, and as a picture."""

from m0_parity.report.document import SCHEMA, document, load, save
from m0_parity.report.page import page
from m0_parity.report.terminal import finding, line, summary

__all__ = ["SCHEMA", "document", "finding", "line", "load", "page", "save", "summary"]
