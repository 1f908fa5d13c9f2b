"""What the report needs to know of `squad_roberta`."""

from experiments.harness.report_info import ReportInfo, Score

REPORT = ReportInfo(
    score=Score("f1", "F1 (%)"),
    is_final=lambda task, settings: settings.get("phase") == "final",
)
