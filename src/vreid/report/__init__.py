"""The HTML report: `write_report(Report(...), "report.html")`. Nothing below imports it; it knows no simulator."""

from vreid.report.contents import LadderRow, MapRoad, Report, Site
from vreid.report.page import write_report

__all__ = ["LadderRow", "MapRoad", "Report", "Site", "write_report"]
