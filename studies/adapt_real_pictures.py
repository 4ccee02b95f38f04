"""Measure adaptation without labels on real crops of two cameras.

A model trained on simulated images (`studies/real_pictures.py` writes one to OUT/seed0-with-motorcycles/run) is
adapted to real crops: two images per vehicle, two cameras, no tracklets. Settings are those of the preset `auto`;
nothing is chosen with these labels. They evaluate the model before and after adaptation once: protocol cross-camera,
plain search and with camera means subtracted, with the interval of the change by bootstrap over vehicles. The adapted
model is evaluated regardless of the gate, whose decision is printed.

    python studies/adapt_real_pictures.py FOLDER RUN --out runs/adapt_real_pictures
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from vreid.adaptation.adapt import FACTS, REJECTED, target_images
from vreid.adaptation.repeated import adapt
from vreid.data.open import open_dataset
from vreid.diagnostics.slices import ALL
from vreid.files import read_json, write_json
from vreid.progress_bars import ProgressBars
from vreid.retrieval import PostProcessing, interval
from vreid.retrieval.evaluation.ablation import difference
from vreid.workflow import extract

POSTS = {"plain": PostProcessing(), "camera mean": PostProcessing.parse("camera-mean")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/adapt_real_pictures"))
    options = parser.parse_args()
    real, out = open_dataset(options.folder), options.out
    with ProgressBars() as bars:
        adapt(options.run, target_images(real), out=out / "adapted", resume=True, progress=bars)
        rejected = out / "adapted" / REJECTED
        after_model = rejected if rejected.exists() else out / "adapted"
        before = extract(options.run, real, out / "before", progress=bars)
        after = extract(after_model, real, out / "after", progress=bars)
    facts = read_json(out / "adapted" / FACTS)
    decision = facts.get("verdict", {"decision": "not judged", "reason": ""})
    print(
        f"{facts['clusters']} clusters, {facts['noise']:.0%} of {facts['images']} pictures in none; "
        f"{decision['decision']}: {decision['reason']}"
    )
    for reason in facts["reasons"]:
        print(f"  {reason}")
    wheels = before.query.records.vehicle_type.values != "motorcycle"
    rows = []
    for name, post in POSTS.items():
        for part in ("all", "four-wheelers"):
            some = slice(None) if part == "all" else wheels
            old, new = (
                replace(search, query=search.query[some], gallery=search.gallery[some]).evaluate(post)[ALL]
                for search in (before, after)
            )
            low, high = interval(difference(new, old), "mAP")
            change = 100 * (new.mAP - old.mAP)
            rows.append(
                {
                    "post": name,
                    "part": part,
                    "before": 100 * old.mAP,
                    "after": 100 * new.mAP,
                    "change": [change, 100 * low, 100 * high],
                }
            )
            print(
                f"{name:12s} {part:14s} {100 * old.mAP:5.1f} -> {100 * new.mAP:5.1f}   {change:+.1f} "
                f"({100 * low:+.1f} to {100 * high:+.1f})"
            )
    write_json(out / "results.json", {"verdict": decision, "clusters": facts["clusters"], "rows": rows})


if __name__ == "__main__":
    main()
