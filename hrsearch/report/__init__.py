"""The report of a study: one HTML file that opens without a network, and a table. Needs no torch."""

from hrsearch.report.figures import FIGURES
from hrsearch.report.page import write_report

__all__ = ["FIGURES", "write_report"]
