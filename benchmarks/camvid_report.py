"""Write the tables and curves from the rows of camvid.py.

    python benchmarks/camvid_report.py

reads benchmarks/results/camvid/*.json, and writes benchmarks/results/camvid.md
and docs/images/camvid_curves.png.
"""

import argparse
import json
from pathlib import Path
from typing import Any

# Files beside this one: scripts find what lies in their own folder.
from measuring import markdown_table, write_text

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks/results/camvid"
TABLES = ROWS.with_suffix(".md")
CURVES = ROOT / "docs/images/camvid_curves.png"
NETWORKS = dict(
    segnet_basic="SegNet-Basic",
    bayesian_segnet_basic="Bayesian SegNet-Basic",
    segnet="SegNet",
    enet="ENet",
)
SCORES = dict(
    global_accuracy="G", class_accuracy="C", mean_iou="mIoU", boundary_f1="BF"
)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))
    ]


def title(row: dict[str, Any]) -> str:
    samples = f", {row['samples']} samples" if row["samples"] else ""
    return f"{NETWORKS[row['network']]}, {row['decoder']}{samples}"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def scores_table(rows: list[dict[str, Any]]) -> str:
    return markdown_table(
        [
            {
                "network, decoder": title(row),
                "parameters": f"{row['parameters']:,}",
                "best epoch": row["best_epoch"],
                "its mIoU": percent(
                    row["history"][row["best_epoch"] - 1]["val_mean_iou"]
                ),
                **{
                    short: percent(row["scores"][name])
                    for name, short in SCORES.items()
                },
                "backend, dtype": f"{row['backend']}, {row['dtype_policy']}",
            }
            for row in rows
        ]
    )


def classes_table(rows: list[dict[str, Any]]) -> str:
    """IoU of every class, a column for each row."""
    return markdown_table(
        [
            {
                "class": name,
                **{
                    title(row): percent(row["classes"][name]["mean_iou"])
                    for row in rows
                },
            }
            for name in rows[0]["classes"]
        ]
    )


def report(rows: list[dict[str, Any]]) -> str:
    """The tables, as sections that a page can include."""
    sections = dict(
        scores=scores_table(rows),
        classes=classes_table(rows),
        commands="\n\n".join(
            f"{title(row)} ({row['about']['device']}, "
            f"{row['about']['cores']} cores, {row['about']['date']}):\n\n"
            f"```\n{wrapped(row['command'])}\n```"
            for row in rows
        ),
    )
    mark = "<!-- --8<-- [{}:{}] -->\n"
    return "\n".join(
        mark.format("start", name) + f"{text}\n" + mark.format("end", name)
        for name, text in sections.items()
    )


def wrapped(command: str) -> str:
    """A shell command in lines that fit the page."""
    lines = [""]
    for part in command.replace(" --", "\n--").splitlines():
        if len(lines[-1]) + len(part) > 76:
            lines.append("   ")
        lines[-1] = f"{lines[-1]} {part}" if lines[-1] else part
    return " \\\n".join(lines)


def draw_curves(rows: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    loss, score = figure.subplots(1, 2)
    for row in rows:
        if row["samples"]:  # It has the training of another row.
            continue
        epochs = [epoch["epoch"] for epoch in row["history"]]
        for axes, name in ((loss, "loss"), (score, "val_mean_iou")):
            values = [epoch[name] for epoch in row["history"]]
            axes.plot(epochs, values, label=title(row), linewidth=1.2)
    # The scale of the loss depends on the class weights.
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    score.set(xlabel="epoch", ylabel="validation mIoU", ylim=(0, None))
    score.legend(frameon=False, fontsize="small")
    for axes in (loss, score):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    rows = read_rows(ROWS)
    write_text(TABLES, report(rows))
    draw_curves(rows, CURVES)
    print(f"Wrote {TABLES.relative_to(ROOT)}, {CURVES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
