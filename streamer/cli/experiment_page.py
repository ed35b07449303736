"""The report of an experiment as a page of HTML, read without network or script."""

from html import escape

from streamer.evaluation.page import figures, page, section, table
from streamer.experiments.in_words import cells, challengers_in_words, stops_in_words, verdicts
from streamer.experiments.report import ExperimentReport

HEAD = ("metric", "first arm", "this arm", "difference", "at any time, 95 %", "users needed", "verdict")


def experiment_page(report: ExperimentReport) -> str:
    """The HTML: the verdicts, users by arm, and every metric of every arm."""
    record = report.experiment
    said = [*(["Users are not dealt as the shares say: nothing can be said."] if report.is_mismatched else [])]
    said += [*stops_in_words(report), *challengers_in_words(report), *verdicts(report)]
    summary = "".join(f"<p>{escape(line)}</p>\n" for line in said)
    summary += figures([(f"{n:,}", f"users of {arm}") for arm, n in report.users.items()] + [(record.state, "state")])
    first, arms = record.arms[0].name, {one.arm: None for one in report.differences}
    sections = [
        section(
            f"{arm} against {first}",
            f'<div class="scroll">{table(HEAD, [cells(one) for one in report.differences if one.arm == arm])}</div>',
            wide=True,
        )
        for arm in arms
    ]
    return page(f"Experiment {record.name} on {record.surface}", summary, sections)
