"""The report: one HTML file about one run or several, with everything in it."""

from simulations.report.page import write_report

__all__ = ["write_report"]
