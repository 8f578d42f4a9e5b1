"""The tables: one for each case in a terminal, one for all in Markdown, everything as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .jobs import BEST_PEER, JOBS, Target
from .rounds import Entry, Outcome


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns; the first is set to the left, the others to the right, the last as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *middle = [cell.rjust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([first.strip().ljust(widths[0]), *middle, row[-1]]).rstrip())
    return "\n".join(lines)


def listing() -> str:
    """All jobs with their cases, contenders and targets."""
    lines = []
    for job, cases in JOBS.items():
        lines.append(job)
        for case in cases:
            lines.append(f"    {case.heading(1)}")
            lines.append(f"        by {', '.join(case.contenders)}")
            lines += [f"        target: {target.text(case.unit)}" for target in case.targets]
    return "\n".join(lines)


def case_text(outcome: Outcome, scale: float) -> str:
    """The table of a case, quickest first, and its targets."""
    case = outcome.case
    lines = [f"{case.name}: {case.heading(scale)}"]
    rows = [["", case.measure, "flowgraph = 1", "spread", "off"]]
    own = outcome.entries.get("flowgraph")
    for name, entry in sorted(outcome.entries.items(), key=lambda item: item[1].value):
        ratio = f"{entry.value / own.value:.2f}" if own is not None and own.value else ""
        rows.append([name, case.unit.text(entry.value), ratio, _spread(entry), _off(outcome, name, entry)])
    lines += ["  " + line for line in table(rows).splitlines()] if outcome.entries else []
    lines += [f"  left out: {name} ({why})" for name, why in outcome.left_out.items()]
    for name, words in outcome.failed.items():
        lines += [f"  FAILED: {name}", *(f"    | {line}" for line in words.splitlines())]
    lines += [f"  target: {target.text(case.unit)}: {_judged(outcome, target)}" for target in case.targets]
    return "\n".join(lines)


def _spread(entry: Entry) -> str:
    """How far the turns lie apart, as a share of the median."""
    if len(entry.times) < 2 or not entry.value:
        return ""
    return f"{(max(entry.times) - min(entry.times)) / entry.value:.0%}"


def _off(outcome: Outcome, name: str, entry: Entry) -> str:
    if entry.off is None:
        return ""
    text = f"{entry.off:.0e}"
    return f"{text}  DISAGREES: more than {outcome.case.tolerance:g}" if name in outcome.disagreeing else text


def _judged(outcome: Outcome, target: Target) -> str:
    verdict = outcome.verdict(target)
    if verdict is None:
        return "not measured"
    other, found, met = verdict
    text = f"{found:.2f}x" if other else outcome.case.unit.text(found)
    return f"{text}{f' ({other})' if target.of == BEST_PEER else ''}, {'met' if met else 'missed'}"


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many targets are met, and which are not."""
    judged = [(one, target, one.verdict(target)) for one in outcomes for target in one.case.targets]
    measured = [(one, target, verdict[2]) for one, target, verdict in judged if verdict is not None]
    lines = [f"targets: {sum(met for _, _, met in measured)} of {len(measured)} met"]
    for one, target, met in measured:
        if not met:
            lines.append(f"  missed: {one.case.name}: {target.text(one.case.unit)}: {_judged(one, target)}")
    return "\n".join(lines)


def markdown(outcomes: Sequence[Outcome], about: Mapping[str, str], scale: float) -> str:
    """One table of all cases, and a line that says where it comes from."""
    lines = ["| work | flowgraph | others | target | found |", "|---|---|---|---|---|"]
    for outcome in outcomes:
        case, entries = outcome.case, outcome.entries
        others = sorted((name for name in entries if name != "flowgraph"), key=lambda name: entries[name].value)
        cells = [
            case.heading(scale),
            f"**{case.unit.text(entries['flowgraph'].value)}**" if "flowgraph" in entries else "–",
            ", ".join(f"{name} {case.unit.text(entries[name].value)}" for name in others) or "–",
            "; ".join(target.text(case.unit) for target in case.targets) or "–",
            "; ".join(_judged(outcome, target) for target in case.targets) or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "; ".join(f"{name}: {value}" for name, value in about.items() if value) + "."])


def versions(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The versions of all who took part, and the BLAS of flowgraph's numpy."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        for entry in outcome.entries.values():
            for name, version in [*entry.about.get("versions", {}).items(), ("BLAS", entry.about.get("blas"))]:
                if version and version not in found.setdefault(name, []):
                    found[name].append(version)
    return {name: " and ".join(all_of_them) for name, all_of_them in found.items()}


def as_json(outcomes: Sequence[Outcome], about: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, with each turn. Numbers are seconds or bytes."""
    return {"about": dict(about), "settings": dict(settings), "cases": [_case_json(one, settings) for one in outcomes]}


def _case_json(outcome: Outcome, settings: Mapping[str, Any]) -> dict[str, Any]:
    case = outcome.case
    verdicts = [(target.text(case.unit), outcome.verdict(target)) for target in case.targets]
    return {
        "name": case.name,
        "title": case.heading(settings["scale"]),
        "measure": case.measure,
        "contenders": {
            name: {"value": one.value, "turns": one.times, "off": one.off, "found": one.found, **one.about}
            for name, one in outcome.entries.items()
        },
        "left out": outcome.left_out,
        "failed": outcome.failed,
        "targets": [
            {"text": text, "of": verdict[0], "found": verdict[1], "met": verdict[2]} if verdict else {"text": text}
            for text, verdict in verdicts
        ],
    }
