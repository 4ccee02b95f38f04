"""The HTML report: `write_report(Report(...), "report.html")`. Nothing below imports it; it knows no simulator."""

from vreid.report.contents import LadderRow, Report, Road, Site
from vreid.report.page import write_report

__all__ = ["LadderRow", "Report", "Road", "Site", "write_report"]
