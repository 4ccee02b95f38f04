"""Pages of made-up results, and a strict parser for them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from vreid.data.protocols import AI_CITY, MARKET
from vreid.data.records import Records
from vreid.report import MapRoad, Report, ResultRow, Site
from vreid.report.page import render
from vreid.retrieval.distances import Distances
from vreid.retrieval.evaluation.evaluate import evaluate_distances
from vreid.retrieval.ranking import Ranking, rank

PARTS = ("all cameras", "seen cameras", "new cameras")
VOID = {"meta", "img", "wbr"}
CUT = replace(AI_CITY, top_k=20)
HOSTILE = '<script>alert("1")</script>&\'$x^2$'


class Element:
    """A piece of a parsed page."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.children: list[Element | str] = []

    @cached_property
    def text(self) -> str:
        pieces = (child if isinstance(child, str) else child.text for child in self.children)
        return re.sub(r"\s+", " ", "".join(pieces)).strip()

    def all(self, tag: str = "", **attributes: str) -> list[Element]:
        """Elements below this one with that tag and those attributes (class: one of the classes)."""
        out = []
        for child in self.children:
            if isinstance(child, Element):
                given = {"class_": child.attributes.get("class", "").split()}
                fits = all(v in given[k] if k in given else child.attributes.get(k) == v for k, v in attributes.items())
                out += [child] if fits and tag in ("", child.tag) else []
                out += child.all(tag, **attributes)
        return out

    def one(self, tag: str = "", **attributes: str) -> Element:
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements <{tag}> {attributes}"
        return found[0]


class Page(HTMLParser):
    """Parses strictly: every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert len(self.open) == 1, f"<{self.open[-1].tag}> is never closed"

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(report: Report) -> Element:
    return Page(render(report)).root


def town(folder: Path, *, identities: int = 8, cameras: int = 4, seed: int = 0) -> tuple[Records, Records]:
    """Queries (one per vehicle and camera) and gallery (two images each, one tracklet), with small images."""
    rng = np.random.default_rng(seed)
    sides: dict[str, list[dict[str, object]]] = {"query": [], "gallery": []}
    for identity in range(identities):
        for camera in range(cameras):
            for frame in range(3):
                side = "gallery" if frame else "query"
                path = folder / f"{identity}_{camera}_{frame}.png"
                Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
                sides[side].append(
                    {
                        "path": str(path),
                        "image_key": f"{side}/{path.stem}",
                        "identity": f"v{identity}",
                        "camera": f"c{camera}",
                        "tracklet": f"t{identity}-{camera}",
                        "time": 1.7e9 + 1000 * identity + 100 * camera + frame,
                        "color": ["red", "blue"][identity % 2],
                        "vehicle_type": "suv",
                    }
                )
    query, gallery = ({name: [row[name] for row in rows] for name in rows[0]} for rows in sides.values())
    return Records.of(**query), Records.of(**gallery)


def evaluate_made_up(
    query: Records, gallery: Records, seed: int, signal: float, protocol=MARKET
) -> tuple[dict, Ranking]:
    """Metrics by part (cameras c0, c1 are seen) and the ranking, for made-up distances."""
    same = query.identity.values[:, None] == gallery.identity.values[None]
    matrix = (np.random.default_rng(seed).random(same.shape) + signal * ~same).astype(np.float32)
    seen = np.isin(query.camera.values, ["c0", "c1"])
    metrics = {
        part: evaluate_distances(Distances.from_matrix(matrix[mask], query[mask], gallery), protocol)
        for part, mask in zip(PARTS, (seen | True, seen, ~seen), strict=True)
    }
    return metrics, rank(Distances.from_matrix(matrix, query, gallery), protocol, len(gallery))


def made_report(folder: Path) -> Report:
    """A whole report on made-up results: ablation, baselines, ranking, map, training, commands."""
    query, gallery = town(folder)
    plain, _ = evaluate_made_up(query, gallery, 1, 0.3, CUT)
    better, ranking = evaluate_made_up(query, gallery, 2, 0.1, CUT)
    best = {part: replace(metrics, reranked=True, transductive=True) for part, metrics in better.items()}
    chance, _ = evaluate_made_up(query, gallery, 3, 0.0, CUT)
    sites = [Site("c0", 0, 0, PARTS[1]), Site("c1", 400, 0, PARTS[1]), Site("c2", 400, 300, PARTS[2])]
    sites += [Site("c3", 0, 300, PARTS[2]), Site("corner", 800, 150, has_camera=False)]
    roads = [MapRoad("c0", "c1", 40), MapRoad("c1", "corner", 30), MapRoad("corner", "c2", 30), MapRoad("c2", "c3", 45)]
    training = [{"event": "step", "step": s, "epoch": 1, "identity": 5 / s, "loss": 6 / s} for s in range(1, 9)]
    rows = [ResultRow("plain", "nothing else", plain), ResultRow("+ mean", "means", better)]
    return Report(
        "A report",
        notice="Simulated.",
        summary="Done.",
        facts=[("seed", "0")],
        rows=[*rows, ResultRow("+ re-ranking", "neighbours", best)],
        baselines=[ResultRow("chance", "", chance)],
        ranking=ranking,
        ranking_name="+ mean",
        training=training,
        sites=sites,
        roads=roads,
        stages={"train": 61.0, "rank": 2.0},
        commands=[("A folder", ["vreid check crops/", "vreid rank ..."])],
    )
