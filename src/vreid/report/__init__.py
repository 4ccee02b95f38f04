"""The HTML report: `write_report(Report(...), "report.html")`."""

from vreid.report.contents import MapRoad, Report, ResultRow, Site
from vreid.report.page import write_report

__all__ = ["MapRoad", "Report", "ResultRow", "Site", "write_report"]
