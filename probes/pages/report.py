"""The report: one page, JSON with every number and its interval, tables, and figures for paper."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emma_viz.data.provenance import ModelInfo, dump_json
from emma_viz.errors import InputError
from emma_viz.files.atomic import write_file
from emma_viz.files.json_door import TABLE, read_json
from emma_viz.files.room import require_writable
from probes.charts import Chart
from probes.findings import Difference, shown
from probes.numbers import layer_word
from probes.pages import paper_charts
from probes.pages.page import chart_place, escaped, report_page, table, verdict
from probes.parity import Check
from probes.protocol import Finding, Number, Reported, Result

FILES = ("report.html", "report.json")
FOLDERS = ("tables", "figures")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One probe's part of the report."""

    probe: Reported
    results: tuple[Result, ...]
    differences: tuple[Difference, ...] = ()

    @property
    def charts(self) -> list[tuple[str, Chart]]:
        """Its charts, by names that are unique in the report."""
        return [(f"{self.probe.name}-{chart.name}", chart) for chart in self.probe.plots(self.results)]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found about one model, or two."""

    models: tuple[ModelInfo, ...]
    checks: tuple[tuple[Check, ...], ...]
    """Of each model."""
    images: str
    """What was shown, in words."""
    seen: int
    """How many images every number is about, of how many that were asked for."""
    asked: int
    sections: tuple[Section, ...]
    notes: tuple[str, ...]
    minutes: float
    about: str = "What the image tokens hold, where it is lost, and whether the pictures can be trusted."
    """What the page is about."""

    @property
    def title(self) -> str:
        """What the page is called."""
        return "Probes of " + " and ".join(dict.fromkeys(each.name for each in self.models))


def require_report_room(folder: Path) -> None:
    """Refuse a folder in which not all of a report could be written.

    Raises:
        InputError: it cannot be written to, or something else has the name of a part.
    """
    require_writable(folder, folder=True)
    for name in FILES:
        require_writable(folder / name, parents=True)
    for name in FOLDERS:
        require_writable(folder / name, folder=True)


def write_report(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write everything into a folder, which exists.

    Returns:
        The page, the JSON file, the tables, then the figures.
    """
    charts = [pair for section in report.sections for pair in section.charts]
    html, numbers = (folder / name for name in FILES)
    tables, figures = (folder / name for name in FOLDERS)
    for place in (tables, figures):
        place.mkdir(exist_ok=True)
    texts = {
        html: report_page(report.title, _parts(report), charts),
        tables / "findings.csv": _csv(_finding_rows(report)),
    }
    if len(report.models) > 1:
        texts[tables / "differences.csv"] = _csv(_difference_rows(report))
    for path, text in texts.items():
        write_file(path, lambda part, text=text: part.write_text(text, encoding="utf-8"))
    drawn = [file for name, chart in charts for file in paper_charts.write_charts(chart, figures / name)]
    beside = [path for path in (*texts, *drawn) if path != html]
    for stale in _listed(numbers, folder) - set(beside):
        stale.unlink(missing_ok=True)
    files = sorted(path.relative_to(folder).as_posix() for path in beside)
    whole = dump_json({**as_json(report), "files": files})
    write_file(numbers, lambda part: part.write_text(whole, encoding="utf-8"))
    return (html, numbers, *beside)


def _listed(numbers: Path, folder: Path) -> set[Path]:
    """The tables and figures of an earlier report in the folder, as its JSON lists them; of other files none."""
    if not numbers.is_file():
        return set()
    try:
        value = read_json(numbers, error=InputError, budget=TABLE)
    except InputError:  # another program's, or damaged: nothing of it is known to be ours
        return set()
    names = value.get("files")
    own = re.compile(rf"(?:{'|'.join(FOLDERS)})/[^/\\\0]+\.(?:csv|png|pdf)")
    found = names if isinstance(names, list) else []
    return {folder / name for name in found if isinstance(name, str) and own.fullmatch(name)}


def _ended(title: str) -> str:
    return title if title.endswith("?") else f"{title}."


def _parts(report: Report) -> list[str]:
    said = [
        f"<li><b>{escaped(_ended(section.probe.title))}</b> {escaped(text)}</li>"
        for section in report.sections
        if (text := section.probe.summary(section.results))
    ]
    parts = [
        f"<h1>{escaped(report.title)}</h1>",
        f'<p class="soft">{escaped(report.about)} '
        f"{escaped(report.images)}; numbers are about {report.seen} of {report.asked}. "
        f"The last run of the command took {report.minutes:.1f} minutes.</p>",
        f'<p class="lead">{escaped(trust(report))}'
        f"{'' if said or _findings(report) else ' No probe found anything that it could put into a number.'}</p>",
        f'<ul class="lead">{"".join(said)}</ul>',
        "<nav>"
        + "".join(
            f'<a href="#{escaped(each.probe.name)}">{escaped(each.probe.title)}</a>'
            for each in report.sections
        )
        + "</nav>",
        "<h2>Can this checkpoint be looked at?</h2>",
        "<p>The model against itself, on the first that it was shown. A picture of a model that fails here shows "
        "something else than the model.</p>",
    ]
    rows = [
        [info.name, check.name, "passed" if check.passed else "FAILED", check.sentence]
        for info, checks in zip(report.models, report.checks, strict=True)
        for check in checks
    ]
    parts.append(table(["model", "check", "", "what was found"], rows, numbers=9))
    parts += [_models(report), *(f"<p>{escaped(note)}</p>" for note in report.notes)]
    for section in report.sections:
        parts += _section(section, len(report.models))
    return parts


def trust(report: Report) -> str:
    """Whether the pictures can be trusted, from checks and controls alone."""
    failed = [
        f"{check.name} of {info.name}"
        for info, checks in zip(report.models, report.checks, strict=True)
        for check in checks
        if not check.passed
    ]
    findings = _findings(report)
    judged = [finding for finding in findings if finding.beats is not None]
    text = (
        f"Checks that failed: {', '.join(failed)}; the pictures are not to be trusted."
        if failed
        else f"{'Each' if len(report.models) > 1 else 'The'} model agrees with itself in every check."
    )
    if judged:
        text += (
            f" Of {len(judged)} numbers with a control, {sum(bool(each.beats) for each in judged)} beat it, judged by "
            "Holm's p over each probe."
        )
    elif findings:
        text += f" No control stands beside its {len(findings)} numbers."
    return text


def _findings(report: Report) -> list[Finding]:
    return [
        finding for section in report.sections for result in section.results for finding in result.findings
    ]


def _models(report: Report) -> str:
    rows = [
        [
            each.name,
            each.family,
            each.ssm,
            str(each.n_layer),
            str(each.d_model),
            each.dtype,
            each.fingerprint[:16],
        ]
        for each in report.models
    ]
    return table(["model", "family", "kernel", "blocks", "width", "dtype", "fingerprint"], rows, numbers=9)


def _section(section: Section, models: int) -> list[str]:
    probe = section.probe
    parts = [
        f'<h2 id="{escaped(probe.name)}">{escaped(probe.title)}</h2>',
        f"<p>{escaped(probe.question)}</p>",
        f'<p class="soft">{escaped(probe.method)}</p>',
    ]
    if not any(result.findings for result in section.results):
        parts.append('<p class="bad">This probe saw too little to put anything into a number.</p>')
    parts += [chart_place(name, chart) for name, chart in section.charts]
    if models > 1 and section.differences:
        parts.append(_difference_table(section))
    if any(result.findings for result in section.results):
        parts.append(f"<details><summary>Every number</summary>{_finding_table(section)}</details>")
    notes = dict.fromkeys(
        f"{result.model}: {note}" for result in section.results for note in result.gathered.notes
    )
    if notes:
        parts.append("<ul class=soft>" + "".join(f"<li>{escaped(note)}</li>" for note in notes) + "</ul>")
    return parts


def _difference_table(section: Section) -> str:
    first, second = section.results[0].model, section.results[1].model
    differ = [each for each in section.differences if each.sure]
    same = len(section.differences) - len(differ)
    said = (
        f"{second} less {first}: {len(differ)} of {len(section.differences)} numbers differ by more than these images "
        f"leave open (Holm over all of them){'' if not same else f'; of the other {same} no difference can be said'}."
    )
    rows = [
        [
            each.measure.title,
            _layer(each.measure.layer),
            shown(each.first),
            shown(each.second),
            shown(each.over),
        ]
        for each in section.differences
    ]
    head = ["number", "layer", first, second, "difference"]
    return f"<p>{escaped(said)}</p><details><summary>Every difference</summary>{table(head, rows, numbers=2)}</details>"


def _finding_table(section: Section) -> str:
    rows = [
        [
            result.model,
            finding.measure.title,
            _layer(finding.measure.layer),
            shown(finding.number),
            finding.measure.unit,
            "" if finding.control is None else shown(finding.control),
            verdict(finding),
        ]
        for result in section.results
        for finding in result.findings
    ]
    return table(["model", "number", "layer", "value", "unit", "control", ""], rows, numbers=3)


def _layer(layer: int | None) -> str:
    return "" if layer is None else layer_word(layer)


def as_json(report: Report) -> dict[str, Any]:
    """Every number, interval and sentence."""
    return {
        "schema": 1,
        "models": [each.to_json() for each in report.models],
        "images": report.images,
        "seen": report.seen,
        "asked": report.asked,
        "minutes": round(report.minutes, 2),
        "trust": trust(report),
        "notes": list(report.notes),
        "checks": [
            [
                {"name": c.name, "passed": c.passed, "error": _number(c.error), "sentence": c.sentence}
                for c in checks
            ]
            for checks in report.checks
        ],
        "probes": [_section_json(section) for section in report.sections],
    }


def _section_json(section: Section) -> dict[str, Any]:
    return {
        "name": section.probe.name,
        "title": section.probe.title,
        "question": section.probe.question,
        "method": section.probe.method,
        "summary": section.probe.summary(section.results),
        "results": [
            {
                "model": result.model,
                "images": list(result.gathered.names),
                "notes": list(result.gathered.notes),
                "findings": [finding_json(each) for each in result.findings],
            }
            for result in section.results
        ],
        "differences": [
            {
                "name": each.measure.name,
                "layer": each.measure.layer,
                "first": _interval(each.first),
                "second": _interval(each.second),
                "difference": _interval(each.over),
                "holm_p": each.p,
                "sentence": each.sentence,
            }
            for each in section.differences
        ],
    }


def finding_json(finding: Finding) -> dict[str, Any]:
    """One finding."""
    measure = finding.measure
    return {
        "name": measure.name,
        "title": measure.title,
        "layer": measure.layer,
        "unit": measure.unit,
        **_interval(finding.number),
        "control": None if finding.control is None else _interval(finding.control),
        "control_title": measure.control_title,
        "over_control": None if finding.over is None else _interval(finding.over),
        "beats_control": finding.beats,
        "holm_p": finding.p,
        "sentence": finding.sentence,
    }


def _interval(number: Number) -> dict[str, float | None]:
    return {"value": _number(number.value), "low": _number(number.low), "high": _number(number.high)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _finding_rows(report: Report) -> list[dict[str, Any]]:
    rows = []
    for section in report.sections:
        for result in section.results:
            for finding in result.findings:
                found = finding_json(finding)
                control, over = found.pop("control") or {}, found.pop("over_control") or {}
                row = {"model": result.model, "probe": section.probe.name, **found}
                for prefix, numbers in (("control", control), ("over_control", over)):
                    row |= {f"{prefix}_{end}": numbers.get(end) for end in ("value", "low", "high")}
                rows.append(row)
    return rows


def _difference_rows(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "probe": section.probe.name,
            "name": each.measure.name,
            "layer": each.measure.layer,
            "unit": each.measure.unit,
            "first": _number(each.first.value),
            "second": _number(each.second.value),
            **{f"difference_{end}": number for end, number in _interval(each.over).items()},
            "holm_p": each.p,
            "sentence": each.sentence,
        }
        for section in report.sections
        for each in section.differences
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return "\n"
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
