"""Results as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asma.machine import Limits

Row = dict[str, Any]


def _by_work(results: dict[str, Any], threads: int) -> dict[str, dict[str, Row]]:
    works: dict[str, dict[str, Row]] = {}
    for row in results["rows"]:
        if row["threads"] == threads:
            works.setdefault(row["work"], {})[row["provider"]] = row
    return works


def _milliseconds(row: Row | None) -> str:
    return "" if row is None else f"{row['median'] * 1e3:.3g}"


def _ratio(ours: Row, other: Row | None) -> str:
    if other is None:
        return ""
    ratio = other["median"] / ours["median"]
    target = other["target"]
    mark = "" if not target else f" (>= {target:g}: {'met' if ratio >= target else 'NOT met'})"
    return f"{ratio:.1f}x{mark}"


def _megabytes(row: Row | None) -> str:
    return "" if row is None or row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.1f}"


def limit_seconds(row: Row, limits: dict[str, float]) -> float:
    """The time that the work's bytes and flops need at least on this machine."""
    return Limits(**limits).seconds(row["bytes"], row["flops"])


def _totals(works: dict[str, dict[str, Row]]) -> dict[str, dict[str, Row]]:
    """The encoder's ten graph convolutions together."""
    shapes = [providers for name, providers in works.items() if name.startswith("graph_conv")]
    if len(shapes) < 2:
        return {}
    total: dict[str, Row] = {}
    for provider in shapes[0]:
        rows = [providers[provider] for providers in shapes]
        total[provider] = rows[0] | {key: sum(row[key] for row in rows) for key in ("median", "bytes", "flops")}
        total[provider]["peak_bytes"] = max((row["peak_bytes"] or 0) for row in rows)
        total[provider]["parts"] = rows
    return {"graph_conv, the ten together": total}


def markdown(results: dict[str, Any], earlier: dict[str, Any] | None = None) -> str:
    facts = results["facts"]
    lines = [
        f"# {facts['device']}",
        "",
        f"`{results['command']}`, {results['date']}; torch {facts['torch']}, asma-kernels {facts['asma_kernels']}, "
        f"Python {facts['python']}, instruction set {facts['instruction_set']}. Medians, milliseconds. "
        "Float32; x is (128, 3, 50, 25, 2); graph_conv at N = 32, with dense adjacencies at N = 8; graph_conv and "
        "barlow_twins forward and backward. A correctness gate ran before each.",
    ]
    for count, limits in results["limits"].items():
        works = _by_work(results, int(count))
        if not works:
            continue
        old = _by_work(earlier, int(count)) if earlier else {}
        lines += [
            "",
            f"## {count} thread{'s' if count != '1' else ''}",
            "",
            f"Measured limits: copy {limits['copy_bytes'] / 1e9:.1f} GB/s, copy of the clips' size "
            f"{limits['cached_copy_bytes'] / 1e9:.1f} GB/s, matrix product {limits['flops'] / 1e9:.0f} GFLOP/s.",
            "",
            "| work | ours | limit | of limit | eager | compiled | vs eager | vs compiled "
            "| peak MiB ours / eager / compiled |" + (" earlier |" if earlier else ""),
            "|---|---|---|---|---|---|---|---|---|" + ("---|" if earlier else ""),
        ]
        for name, providers in (works | _totals(works)).items():
            ours, eager, compiled = (providers.get(provider) for provider in ("ours", "eager", "compiled"))
            if ours is None:
                continue
            least = sum(limit_seconds(part, limits) for part in ours.get("parts", [ours]))
            peaks = " / ".join(_megabytes(row) for row in (ours, eager, compiled) if row)
            before = f" {_milliseconds(old.get(name, {}).get('ours'))} |" if earlier else ""
            lines.append(
                f"| {name} | {_milliseconds(ours)} | {least * 1e3:.3g} | {100 * least / ours['median']:.0f}% "
                f"| {_milliseconds(eager)} | {_milliseconds(compiled)} "
                f"| {_ratio(ours, eager)} | {_ratio(ours, compiled)} | {peaks} |{before}"
            )
    notes = {row["work"]: row["note"] for row in results["rows"] if row["note"]}
    lines += [""] + [f"* {work}: {note}." for work, note in notes.items()]
    return "\n".join(lines).rstrip() + "\n"


def chart(results: dict[str, Any], path: Path) -> None:
    """How many times faster than eager and compiled, a bar each, targets as ticks; one thread."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    works = _by_work(results, int(next(iter(results["limits"]))))
    works |= _totals(works)
    names = [name for name, providers in works.items() if "ours" in providers]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(names) + 1.6), layout="constrained")
    styles = (("eager", -0.2, "#0072b2"), ("compiled", 0.2, "#e69f00"))
    for provider, shift, colour in styles:
        places = [place for place, name in enumerate(names) if provider in works[name]]
        rows = [works[names[place]] for place in places]
        ratios = [row[provider]["median"] / row["ours"]["median"] for row in rows]
        heights = [place + shift for place in places]
        axes.barh(heights, ratios, 0.38, color=colour, label=f"faster than {provider}")
        for height, ratio, row in zip(heights, ratios, rows, strict=True):
            axes.text(ratio * 1.03, height, f"{ratio:.1f}x", va="center", fontsize=8)
            if row[provider]["target"]:
                axes.plot([row[provider]["target"]] * 2, [height - 0.19, height + 0.19], color="black", linewidth=2)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}x"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("times faster (log scale); black ticks: what we promise")
    axes.set_title(f"asma-kernels, one thread, {results['facts']['device']}", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
